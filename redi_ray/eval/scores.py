"""How well numbers tell right samples from wrong ones: rank, and as probabilities."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from redi_ray.data.columns import beside
from redi_ray.eval.steps import step_auc
from redi_ray.schemas import Verdict

BINS = 10
"""Of the calibration, equally wide between 0 and 1."""


def calibration(values: np.ndarray, right: np.ndarray, bins: int = BINS) -> dict[str, Any] | None:
    """Numbers as probabilities of being right: `brier` (mean squared error), `ece` (expected calibration error, arXiv 1706.04599:
    the bins' distances of mean number and share of right ones, by their sizes), `accuracy` at a half, and the `bins`, each
    `{n, mean, right}`. None where a number is outside [0, 1], or there is none.
    """
    values, right = np.asarray(values, np.float64), np.asarray(right, np.float64)
    if not len(values) or values.min() < 0 or values.max() > 1:
        return None
    place = np.minimum((values * bins).astype(int), bins - 1)
    sizes = np.bincount(place, minlength=bins)
    means, shares = (np.bincount(place, weights=of, minlength=bins) / np.maximum(sizes, 1) for of in (values, right))
    return {
        "brier": float(np.mean((values - right) ** 2)),
        "ece": float((sizes * np.abs(means - shares)).sum() / len(values)),
        "accuracy": float(np.mean((values >= 0.5) == (right > 0.5))),
        "bins": [
            {"n": int(n), "mean": float(mean), "right": float(share)}
            for n, mean, share in zip(sizes, means, shares, strict=True)
            if n
        ],
    }


def against_verdicts(shards: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """A column of numbers against verdicts: `right` and `wrong` samples that have one, the `auc` of the numbers for telling them
    apart, and the `calibration`.

    shards: (verified shard, the column's), one after the other; of each sample a number and a bit are held. Verdicts beside
    `correct` and `wrong` say nothing.
    """
    values, right = [np.zeros(0)], [np.zeros(0, bool)]
    for samples, column in shards:
        for rows, (scores,) in beside(samples, [column], ["verdict"]):
            numbers = scores["value"].to_numpy(zero_copy_only=False).astype(np.float64)
            verdicts = np.array(rows["verdict"].to_pylist(), dtype=object)
            told = np.isfinite(numbers) & np.isin(verdicts, [str(Verdict.CORRECT), str(Verdict.WRONG)])
            values.append(numbers[told])
            right.append(verdicts[told] == str(Verdict.CORRECT))
    every, are_right = np.concatenate(values), np.concatenate(right)
    return {
        "right": int(are_right.sum()),
        "wrong": int((~are_right).sum()),
        "auc": step_auc(every, are_right),
        "calibration": calibration(every, are_right),
    }
