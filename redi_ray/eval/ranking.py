"""What a number per sample adds to an evaluation: its mean, and what is gained where it picks among samples, or weighs votes.

Estimates of a pick among k samples are means over all ways to draw k of the n that there are, without replacement, as pass@k is:
for the best of k that is known from the order of the numbers alone. Votes are counted for every such draw where these are few
(`MOST_DRAWS`), else for so many by the seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from redi_ray.eval.metrics import (
    PairedComparison,
    bootstrap_interval,
    compare_scores,
    pass_at_k,
    sample_scores,
    standard_error,
)

MOST_DRAWS = 20_000
"""Ways to draw k of n samples up to which all are counted: C(16, 8) is 12,870."""
TIED = 1e-9
"""Votes that differ by less, as a share of all votes' size, are equal: sums of the same weights in another order."""


@dataclass(frozen=True)
class ScoreResult:
    """Numbers of one model's samples on one benchmark. JSON-able by `asdict`."""

    scorer: str
    mean: float
    """Over all samples of the problems that count."""
    sem: float | None
    """sd(S_1..S_k)/sqrt(k), S_j being the mean over problems of the j-th samples."""
    ci95: tuple[float, float]
    """Percentile bootstrap over problems."""
    num_problems: int
    """Problems all of whose samples have a number; the others do not count."""
    without: int
    """Samples that have none."""
    labels: dict[str, int]
    """What the scorer calls the samples -> how many."""
    problem_means: tuple[float | None, ...]
    """Of each problem in the benchmark's order, None for one that does not count."""


@dataclass(frozen=True)
class RankedResult:
    """What a number is worth for choosing among samples, at equal numbers of samples. JSON-able by `asdict`."""

    scorer: str
    without: int
    """Samples without a number: chosen last, and without a vote where votes are weighed."""
    at_k: dict[str, dict[str, float]]
    """k -> share of problems solved by `any` of k samples (pass@k), by their `majority`, by the `best` of them, and by the
    majority with votes `weighted` by the number."""
    largest_k: int
    best_against_majority: PairedComparison
    """Of `largest_k` samples."""
    weighted_against_majority: PairedComparison


def best_of_k(values: ArrayLike, numbers: ArrayLike, k: int) -> NDArray[np.float64]:
    """Expected value of the sample with the highest number among k drawn without replacement, for each problem: float[P].

    values: float[P, n], such as 1 for a right sample; numbers: float[P, n], NaN for a sample that is chosen last. Of equal
    numbers each sample is as likely to be chosen. Raises ValueError unless 1 <= k <= n.

    With m_i samples at or below the i-th of the different numbers, that one is the highest with the chance
    (C(m_i, k) - C(m_(i-1), k)) / C(n, k).
    """
    worth, order = np.asarray(values, np.float64), np.nan_to_num(np.asarray(numbers, np.float64), nan=-np.inf)
    num_samples = worth.shape[1]
    _require_k(k, num_samples)
    within = np.array([math.comb(m, k) / math.comb(num_samples, k) for m in range(num_samples + 1)])
    found = []
    for row, levels in zip(worth, order, strict=True):
        _, place, counts = np.unique(levels, return_inverse=True, return_counts=True)
        chances = np.diff(within[np.concatenate([[0], np.cumsum(counts)])])
        found.append(float(chances @ (np.bincount(place, weights=row) / counts)))
    return np.array(found)


def majority_of_k(
    answers: Sequence[Sequence[str | None]],
    correct: ArrayLike,
    k: int,
    weights: ArrayLike | None = None,
    seed: int = 0,
) -> NDArray[np.float64]:
    """How right the answer with the most votes is, on average, among k samples drawn without replacement, for each problem:
    float[P].

    Args:
        answers: P rows of n, in one spelling each; None casts no vote, and where nobody votes nothing is solved.
        correct: bool[P, n]. An answer is worth the share of right samples among those that give it.
        weights: float[P, n] of each vote, below 0 a vote against; NaN casts none. None weighs them alike.
        seed: of the draws, where there are more than `MOST_DRAWS`.

    Of answers with as many votes each is as likely to be chosen. Raises ValueError unless 1 <= k <= n.
    """
    right = np.asarray(correct, np.float64)
    num_samples = right.shape[1]
    _require_k(k, num_samples)
    weighed = np.ones_like(right) if weights is None else np.asarray(weights, np.float64)
    drawn = _draws(num_samples, k, seed)
    return np.array([_elected(*row, drawn) for row in zip(answers, right, weighed, strict=True)])


def _elected(
    answers: Sequence[str | None], right: NDArray[Any], weights: NDArray[Any], drawn: NDArray[np.float64]
) -> float:
    """Mean over draws (float[D, n], 1 for a sample that is in) of what the elected answer is worth."""
    votes = [at for at, answer in enumerate(answers) if answer is not None and not math.isnan(weights[at])]
    names = list(dict.fromkeys(answers[at] for at in votes))
    if not names:
        return 0.0
    says = np.zeros((len(answers), len(names)))
    for at in votes:
        says[at, names.index(answers[at])] = 1.0
    worth = (right @ says) / says.sum(axis=0)
    there = drawn @ says > 0
    sums = np.where(there, drawn @ (says * np.nan_to_num(weights)[:, None]), -np.inf)
    first = there & (sums >= sums.max(axis=1, keepdims=True) - TIED * np.abs(np.nan_to_num(weights)).sum())
    elected = first.sum(axis=1)
    return float(((first @ worth) / np.maximum(elected, 1)).mean())


def _draws(num_samples: int, k: int, seed: int) -> NDArray[np.float64]:
    """float[D, n], 1 for the k samples of each draw: all there are, or MOST_DRAWS of them."""
    if math.comb(num_samples, k) <= MOST_DRAWS:
        places = np.array(list(combinations(range(num_samples), k)))
    else:
        order = np.random.default_rng(seed).random((MOST_DRAWS, num_samples))
        places = np.argpartition(order, k - 1, axis=1)[:, :k]
    drawn = np.zeros((len(places), num_samples))
    np.put_along_axis(drawn, places, 1.0, axis=1)
    return drawn


def _require_k(k: int, num_samples: int) -> None:
    if not 1 <= k <= num_samples:
        raise ValueError(f"a choice among {k} needs 1 <= {k} <= {num_samples} samples a problem")


def summarize_scores(
    scorer: str, numbers: ArrayLike, *, labels: Mapping[str, int], ddof: int = 0, seed: int = 0
) -> ScoreResult | None:
    """Numbers of a benchmark's samples, float[P, n] with NaN where there is none; None where no problem has them all."""
    table = np.asarray(numbers, np.float64)
    whole: NDArray[np.bool_] = ~np.asarray(np.isnan(table).any(axis=1))
    if not whole.any():
        return None
    counted = table[whole]
    means = iter(counted.mean(axis=1).tolist())
    return ScoreResult(
        scorer=scorer,
        mean=float(counted.mean()),
        sem=standard_error(sample_scores(counted), ddof),
        ci95=bootstrap_interval(counted.mean(axis=1), seed=seed),
        num_problems=int(whole.sum()),
        without=int(np.isnan(table).sum()),
        labels=dict(labels),
        problem_means=tuple(next(means) if there else None for there in whole),
    )


def compare_means(before: Sequence[float | None], after: Sequence[float | None]) -> PairedComparison | None:
    """`after` minus `before`, paired by problem, over those that count in both; None where there is none."""
    both = [(a, b) for a, b in zip(before, after, strict=True) if a is not None and b is not None]
    return compare_scores(*map(list, zip(*both, strict=True))) if both else None


def summarize_ranking(
    scorer: str,
    numbers: ArrayLike,
    correct: ArrayLike,
    answers: Sequence[Sequence[str | None]],
    ks: Sequence[int],
    seed: int = 0,
) -> RankedResult:
    """numbers: float[P, n], NaN for none; correct: bool[P, n]; answers: P rows of n. A k above n is left out."""
    table, right = np.asarray(numbers, np.float64), np.asarray(correct, bool)
    num_samples = right.shape[1]
    wanted = sorted({*(k for k in ks if k <= num_samples), num_samples})
    at_k, chosen = dict[str, dict[str, float]](), dict[str, NDArray[np.float64]]()
    for k in wanted:
        chosen = {
            "majority": majority_of_k(answers, right, k, seed=seed),
            "best": best_of_k(right, table, k),
            "weighted": majority_of_k(answers, right, k, table, seed),
        }
        solved = pass_at_k(right.sum(axis=1), num_samples, k)
        at_k[str(k)] = {"any": solved, **{name: float(value.mean()) for name, value in chosen.items()}}
    return RankedResult(
        scorer=scorer,
        without=int(np.isnan(table).sum()),
        at_k=at_k,
        largest_k=wanted[-1],
        best_against_majority=compare_scores(chosen["majority"], chosen["best"], seed=seed),
        weighted_against_majority=compare_scores(chosen["majority"], chosen["weighted"], seed=seed),
    )
