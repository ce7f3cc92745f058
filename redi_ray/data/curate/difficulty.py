"""Block `difficulty`: how often each problem is solved, and which rates are wanted."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pyarrow as pa

from redi_ray.config.curation import Difficulty
from redi_ray.schemas import Verdict

PASS_RATE = pa.schema(
    [
        pa.field("problem_id", pa.string(), nullable=False),
        pa.field("model", pa.string()),
        pa.field("samples", pa.int64(), nullable=False),
        pa.field("correct", pa.int64(), nullable=False),
        pa.field("pass_rate", pa.float64()),
    ]
)


def pass_rate(difficulty: Difficulty | None, problem_id: str, traces: list[dict[str, Any]]) -> dict[str, Any]:
    """A row of PASS_RATE. `traces`: the problem's rows of SCANNED."""
    counted = [trace for trace in traces if trace["counts"]]
    correct = sum(trace["verdict"] == Verdict.CORRECT for trace in counted)
    model = difficulty.model if difficulty is not None else None
    rate = correct / len(counted) if counted else None
    return {
        "problem_id": problem_id,
        "model": model,
        "samples": len(counted),
        "correct": correct,
        "pass_rate": rate,
    }


def difficulty_problem(difficulty: Difficulty | None, rate: dict[str, Any]) -> tuple[str, str] | None:
    """(reason, detail) why a problem with this pass rate goes, or None."""
    if difficulty is None:
        return None
    if rate["samples"] < difficulty.min_samples:
        return "too_few_samples", str(rate["samples"])
    if rate["pass_rate"] < difficulty.min_rate:
        return "too_hard", f"{rate['correct']} of {rate['samples']}"
    if rate["pass_rate"] > difficulty.max_rate:
        return "too_easy", f"{rate['correct']} of {rate['samples']}"
    return None


def bucket_of(difficulty: Difficulty | None, rate: float | None) -> int | None:
    """The difficulty bucket of a pass rate."""
    buckets = difficulty.buckets if difficulty is not None else []
    if rate is None:
        return None
    return next((index for index, bucket in enumerate(buckets) if rate <= bucket.up_to), None)


def count_rates(rates: list[dict[str, Any]]) -> Counter[str]:
    """Problems per tenth of the pass rate, for the manifest: `pass_rate/0.3` counts 0.3 up to 0.4."""
    known = [rate["pass_rate"] for rate in rates if rate["pass_rate"] is not None]
    counts = Counter(f"pass_rate/{math.floor(rate * 10 + 1e-9) / 10:.1f}" for rate in known)
    if unknown := len(rates) - len(known):
        counts["pass_rate/unknown"] = unknown
    return counts
