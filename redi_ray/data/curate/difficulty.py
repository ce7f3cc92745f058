"""Blocks of `difficulty`: how often each problem is solved, which rates are wanted, and how many problems of a range of them."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pyarrow as pa

from redi_ray.config.curation import Bucket, Difficulty
from redi_ray.data.curate.block import CorpusBlock, RateBlock, Row, Why, without
from redi_ray.data.curate.work import Curation, Drops
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


class PassRates(RateBlock):
    """Problems that are solved too seldom or too often, or whose rate is not known well enough."""

    reasons = ("too_few_samples", "too_hard", "too_easy")

    def __init__(self, config: Difficulty) -> None:
        self.config = config

    @classmethod
    def of(cls, curation: Curation) -> PassRates | None:
        return None if curation.config.difficulty is None else cls(curation.config.difficulty)

    def why(self, rate: Row) -> Why | None:
        if rate["samples"] < self.config.min_samples:
            return "too_few_samples", str(rate["samples"])
        if rate["pass_rate"] < self.config.min_rate:
            return "too_hard", f"{rate['correct']} of {rate['samples']}"
        if rate["pass_rate"] > self.config.max_rate:
            return "too_easy", f"{rate['correct']} of {rate['samples']}"
        return None


class BucketCaps(CorpusBlock):
    """Problems over the cap of their range of pass rates; those whose keys come first stay."""

    reasons = ("over_bucket_cap",)

    def __init__(self, buckets: list[Bucket]) -> None:
        self.buckets = buckets

    @classmethod
    def of(cls, curation: Curation) -> BucketCaps | None:
        difficulty = curation.config.difficulty
        return cls(difficulty.buckets) if difficulty is not None and difficulty.buckets else None

    def sieve(self, table: pa.Table, drops: Drops) -> pa.Table:
        kept, told = Counter[int](), dict[int, str]()
        for row, bucket in enumerate(table["bucket"].to_pylist()):
            cap = self.buckets[bucket].max_problems
            if cap is not None and kept[bucket] >= cap:
                told[row] = f"up to {self.buckets[bucket].up_to:g}"
            kept[bucket] += 1
        return without(table, told, "over_bucket_cap", drops)


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
