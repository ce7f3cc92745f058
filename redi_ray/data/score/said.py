"""What a model says of each sample as a number, in answer to a problem that was made of it."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from redi_ray.config.trace_rewards import SaidScorer
from redi_ray.data.score.pass_rate import save_means, start
from redi_ray.data.score.scorer import Asked, Scorer
from redi_ray.data.sources.ids import hash_ids
from redi_ray.store import parquet

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def prepare(settings: SaidScorer, asked: Asked) -> dict[str, Any]:
    """Write the mean number of each problem; what was counted."""
    hashes, numbers, samples = [np.empty(0, np.uint64)], list[float](), 0
    for shard in asked.judged:
        for rows in parquet.read_batches(shard, ["problem_id", "extracted_answer"]):
            said = [(row["problem_id"], as_number(row["extracted_answer"])) for row in rows.to_pylist()]
            known = [(problem, number) for problem, number in said if number is not None]
            hashes.append(hash_ids([problem for problem, _ in known]))
            numbers += [number for _, number in known]
            samples += len(said)
    problems = save_means(asked.work, np.concatenate(hashes), np.array(numbers))
    return {"answered": {"problems": problems, "samples": samples, "no_number": samples - len(numbers)}}


def as_number(answer: str | None) -> float | None:
    """The number that an answer is, None for anything else."""
    said = (answer or "").strip()
    found = float(said) if NUMBER.fullmatch(said) else math.inf
    return found if math.isfinite(found) else None


SAID = Scorer((), start, prepare)
