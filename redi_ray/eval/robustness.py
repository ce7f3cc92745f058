"""Accuracy on variants of problems against accuracy on the problems themselves, paired by problem.

A sample that is not verified as right counts against the model, as in evaluations. A variant counts where its original has
samples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from redi_ray.eval.metrics import bootstrap_interval, compare_scores
from redi_ray.schemas import Verdict
from redi_ray.store import parquet
from redi_ray.text.variants import origin_of

PAIRED = pa.schema(
    [
        pa.field("original_id", pa.string(), nullable=False),
        pa.field("perturbation", pa.string(), nullable=False),
        pa.field("original", pa.float64(), nullable=False),  # share of right samples
        pa.field("variant", pa.float64(), nullable=False),
        pa.field("samples", pa.int64(), nullable=False),  # of the variant
    ]
)
NO_ORIGINAL = "original_not_sampled"
"""Why samples of a variant are left out."""
Rates = dict[str, tuple[int, int]]
"""Problem -> right samples, samples."""


def read_rates(shards: Sequence[str]) -> Rates:
    """Of verified samples: of each problem some 100 bytes are held."""
    right, every = Counter[str](), Counter[str]()
    for shard in shards:
        for batch in parquet.read_batches(shard, ["problem_id", "verdict"]):
            for problem, verdict in zip(batch["problem_id"].to_pylist(), batch["verdict"].to_pylist(), strict=True):
                every[problem] += 1
                right[problem] += verdict == Verdict.CORRECT
    return {problem: (right[problem], samples) for problem, samples in every.items()}


def paired(variants: Rates, originals: Rates) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Rows of PAIRED, by problem and perturbation, and the counts of samples: `in`, `out`, NO_ORIGINAL.

    An id that looks like a variant's is one where the problem before its mark has samples; all else are originals.
    """
    counts, rows = Counter[str](), list[dict[str, Any]]()
    for problem, (right, samples) in sorted(variants.items()):
        origin = origin_of(problem)
        counts["in"] += samples
        if origin is None:
            counts["out"] += samples
            continue
        if origin[0] not in originals:
            counts[NO_ORIGINAL] += samples
            continue
        counts["out"] += samples
        before, of = originals[origin[0]]
        told = {"original_id": origin[0], "perturbation": origin[1], "samples": samples}
        rows.append({**told, "original": before / of, "variant": right / samples})
    return rows, counts


def robustness(rows: Sequence[Mapping[str, Any]], seed: int = 0) -> dict[str, Any]:
    """`by` perturbation, and over all of them (each problem counting once, by the mean of its variants): `problems`, `original`
    and `variants` (accuracies), the paired `difference` with `ci95` and `p_value`, and `lost` and `gained`, problems whose
    variants are less and more often right. Under `worst` the accuracy at each problem's worst variant, itself among them."""
    names = dict.fromkeys(sorted(row["perturbation"] for row in rows))
    by = {name: _compared([row for row in rows if row["perturbation"] == name], seed) for name in names}
    problems: dict[str, list[float]] = {}
    before: dict[str, float] = {}
    for row in rows:
        problems.setdefault(row["original_id"], []).append(row["variant"])
        before[row["original_id"]] = row["original"]
    means = [{"original": before[name], "variant": float(np.mean(found))} for name, found in problems.items()]
    worst = [min(before[name], *found) for name, found in problems.items()]
    interval = {"accuracy": float(np.mean(worst)), "ci95": bootstrap_interval(worst, seed=seed)}
    return {"by": by, "all": _compared(means, seed), "worst": interval}


def _compared(rows: Sequence[Mapping[str, Any]], seed: int) -> dict[str, Any]:
    before, after = (np.array([row[name] for row in rows]) for name in ("original", "variant"))
    found = asdict(compare_scores(before, after, seed=seed))
    lost, gained = int((after < before).sum()), int((after > before).sum())
    means = {"original": float(before.mean()), "variants": float(after.mean())}
    return {"problems": found.pop("num_problems"), **means, **found, "lost": lost, "gained": gained}


def hold_against(
    variants: Sequence[str], originals: Sequence[str], seed: int, out: str
) -> tuple[Counter[str], dict[str, Any]]:
    """Write `out` (PAIRED) from verified shards; the counts of samples, and what `robustness` says, empty without any pair."""
    rates = read_rates(variants)
    rows, counts = paired(rates, rates if originals == variants else read_rates(originals))
    parquet.write_table(out, pa.Table.from_pylist(rows, schema=PAIRED))
    return counts, robustness(rows, seed) if rows else {}
