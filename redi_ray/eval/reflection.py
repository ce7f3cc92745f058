"""Whether right samples look back more often than wrong ones, and whether that is more than difficulty and length.

Hard problems have longer samples, more of them wrong, and more of everything in them. So beside the shares over all samples
stands a comparison within problems: of each problem that has both, the mean of its right samples less the mean of its wrong ones,
over which an interval is drawn; and the accuracy of its samples with a behaviour less that of those without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from redi_ray.data.reflection import HITS
from redi_ray.data.sources.ids import hash_ids
from redi_ray.eval.metrics import RESAMPLES, compare_scores
from redi_ray.schemas import Verdict
from redi_ray.store import parquet

PER = 1000
"""Characters that rates of hits are told for."""
DRAWS = 20_000_000
"""Numbers drawn for an interval at the most: many problems need few resamples."""


@dataclass(frozen=True)
class Samples:
    """What is held of all samples: some 40 bytes each, and 8 a behaviour."""

    problem: np.ndarray
    """int `[N]`, which problem each belongs to."""
    verdict: np.ndarray
    """str `[N]`."""
    characters: np.ndarray
    tokens: np.ndarray
    """float `[N]`, NaN where unknown."""
    hits: dict[str, np.ndarray]
    """Behaviour -> int `[N]`."""

    @property
    def right(self) -> np.ndarray:
        return self.verdict == str(Verdict.CORRECT)

    @property
    def wrong(self) -> np.ndarray:
        return self.verdict == str(Verdict.WRONG)


def read_samples(shards: Sequence[str], behaviours: Sequence[str]) -> Samples:
    """The table of a step `reflect`, texts and ids left out."""
    parts: dict[str, list[np.ndarray]] = {
        name: [] for name in ("problem", "verdict", "characters", "tokens", *behaviours)
    }
    for shard in shards:
        for rows in parquet.read_batches(shard):
            parts["problem"].append(hash_ids(rows["problem_id"].to_pylist()))
            parts["verdict"].append(np.array(rows["verdict"].to_pylist(), dtype="U16"))
            for name, column in (("characters", "characters"), ("tokens", "num_tokens")):
                parts[name].append(rows[column].to_numpy().astype(np.float64))
            for name in behaviours:
                parts[name].append(rows[HITS + name].to_numpy())
    every = {name: np.concatenate(found) if found else np.zeros(0) for name, found in parts.items()}
    problem = np.unique(every["problem"], return_inverse=True)[1]
    told = {name: every[name] for name in ("verdict", "characters", "tokens")}
    return Samples(problem=problem, hits={name: every[name] for name in behaviours}, **told)


def statistics(samples: Samples) -> dict[str, Any]:
    """What a step `reflect` says of its samples; see the module. Means of nothing are None."""
    both = np.intersect1d(samples.problem[samples.right], samples.problem[samples.wrong])
    return {
        "problems": len(np.unique(samples.problem)),
        "problems_with_both": len(both),
        "by_verdict": {
            str(verdict): {
                "samples": int(some.sum()),
                "characters": _mean(samples.characters[some]),
                "tokens": _mean(samples.tokens[some]),
            }
            for verdict in Verdict
            if (some := samples.verdict == str(verdict)).any()
        },
        "length": {name: _right_and_wrong(samples, getattr(samples, name)) for name in ("characters", "tokens")},
        "behaviours": {name: _behaviour(samples, found) for name, found in samples.hits.items()},
    }


def _behaviour(samples: Samples, hits: np.ndarray) -> dict[str, Any]:
    there, rate = hits > 0, PER * hits / np.maximum(samples.characters, 1)
    told = {"share": there.astype(float), "hits": hits.astype(float), "per_1000": rate}
    judged = samples.right | samples.wrong
    return {
        "samples": int(there.sum()),
        "hits": int(hits.sum()),
        "most_in_one": int(hits.max(initial=0)),
        "right_with": int((samples.right & there).sum()),
        "without": int((~there).sum()),
        "right_without": int((samples.right & ~there).sum()),
        "by_verdict": {
            str(verdict): {name: _mean(values[some]) for name, values in told.items()}
            for verdict in Verdict
            if (some := samples.verdict == str(verdict)).any()
        },
        "right_less_wrong": {name: _right_and_wrong(samples, values) for name, values in told.items()},
        "accuracy_with_less_without": _within(samples, samples.right.astype(float), judged & there, judged & ~there),
    }


def _right_and_wrong(samples: Samples, values: np.ndarray) -> dict[str, Any]:
    return _within(samples, values, samples.right, samples.wrong)


def _within(samples: Samples, values: np.ndarray, some: np.ndarray, others: np.ndarray) -> dict[str, Any]:
    """Mean of `values` over `some` less that over `others`: `pooled` over all samples, and within problems that have both, with
    interval and p-value; None where there are none."""
    known = np.isfinite(values)
    above, below = some & known, others & known
    means = [_mean(values[which]) for which in (above, below)]
    pooled = None if None in means else means[0] - means[1]  # type: ignore[operator]
    problems = int(samples.problem.max(initial=-1)) + 1
    sizes = [np.bincount(samples.problem[which], minlength=problems) for which in (above, below)]
    paired = (sizes[0] > 0) & (sizes[1] > 0)
    if not paired.any():
        return {"pooled": pooled, "within": None}
    sums = [np.bincount(samples.problem[which], values[which], minlength=problems) for which in (above, below)]
    mine, theirs = (total[paired] / size[paired] for total, size in zip(sums, sizes, strict=True))
    resamples = int(np.clip(DRAWS // len(mine), 200, RESAMPLES))
    return {"pooled": pooled, "within": asdict(compare_scores(theirs, mine, resamples=resamples))}


def _mean(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def reflection(shards: Sequence[str], behaviours: Sequence[str]) -> dict[str, Any]:
    """`statistics` of the table of a step `reflect`, and the `counts` of its samples by verdict."""
    return statistics(read_samples(shards, behaviours))
