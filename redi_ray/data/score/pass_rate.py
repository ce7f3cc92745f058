"""How often what was made of a sample leads to the right answer: counted once, kept as sorted hashes of ids, 16 bytes each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from redi_ray.config.trace_rewards import PassRateScorer
from redi_ray.data.curate.scan import RATED
from redi_ray.data.score.imported import load_numbers, numbers_of, save_numbers
from redi_ray.data.score.scorer import Asked, Scorer, Values
from redi_ray.data.sources.ids import hash_ids
from redi_ray.schemas import Verdict
from redi_ray.store import parquet


def prepare(settings: PassRateScorer, asked: Asked) -> dict[str, Any]:
    """Write the share of right ones of each problem; what was counted. Samples whose verdict says nothing of them, as with pass
    rates everywhere, do not count."""
    parts: list[tuple[np.ndarray, np.ndarray]] = [(np.empty(0, np.uint64), np.empty(0, np.bool_))]
    left_out = 0
    for shard in asked.judged:
        for rows in parquet.read_batches(shard, ["problem_id", "verdict"]):
            counted = rows.filter(pc.is_in(rows["verdict"], pa.array(sorted(map(str, RATED)))))
            left_out += len(rows) - len(counted)
            right = pc.equal(counted["verdict"], str(Verdict.CORRECT)).to_numpy(zero_copy_only=False)
            parts.append((hash_ids(counted["problem_id"].to_pylist()), right.astype(np.bool_)))
    hashes, right = (np.concatenate(some) for some in zip(*parts, strict=True))
    problems = save_means(asked.work, hashes, right)
    counts = {"problems": problems, "samples": len(hashes), "right": int(right.sum()), "left_out": left_out}
    return {"answered": counts}


def save_means(work: str, problems: np.ndarray, values: np.ndarray) -> int:
    """Keep the mean value of each problem; how many there are. problems: uint64[samples], hashes of ids; values: [samples]."""
    found, place = np.unique(problems, return_inverse=True)
    sizes = np.bincount(place, minlength=len(found))
    save_numbers(work, found, np.bincount(place, weights=values, minlength=len(found)) / np.maximum(sizes, 1))
    return len(found)


def start(settings: Any, asked: Asked) -> Values:
    """The mean of each sample's, null where there is none."""
    known = load_numbers(asked.work)
    return lambda rows: [{"value": value} for value in numbers_of(rows["trace_id"].to_pylist(), *known)]


PASS_RATE = Scorer((), start, prepare)
