"""How far judges agree: with people, with themselves when the order of what they compare is swapped, and beyond chance."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from redi_ray.eval.metrics import RESAMPLES

Interval = tuple[float, float]


@dataclass(frozen=True)
class ScoreAgreement:
    """A judge's scores against people's; intervals are 95 % bootstraps over what is judged. JSON-able by `asdict`."""

    num_judged: int
    num_samples: int
    """Scores that the judge has given of each, unreadable ones among them."""
    unreadable: int
    """Scores that could not be read: never right, and of no correlation."""
    accuracy: float
    accuracy_ci95: Interval
    kappa: float | None
    """Cohen's, unreadable being a label of its own; None where chance agrees always."""
    kappa_ci95: Interval | None
    correlation: float | None
    """Pearson's, over scores that are numbers; None where one side does not vary."""
    correlation_ci95: Interval | None


def pair_agreement(
    gold: Sequence[int], winners: Sequence[int | None], winners_swapped: Sequence[int | None]
) -> dict[str, float]:
    """A judge of pairs against people, in both orders of presenting a pair -> percent.

    Args:
        gold: which output of each pair people prefer.
        winners: which one the judge does; None where its verdict could not be read, which is never right.
        winners_swapped: the same with the outputs presented the other way round, named as in `gold`.

    Returns: `accuracy`, `accuracy_swapped`, and `agreement`: how often both orders end alike, unreadable ones too. Raises
    ValueError for sequences that are empty or of different lengths.
    """
    if not len(gold) == len(winners) == len(winners_swapped) > 0:
        raise ValueError(
            f"{len(gold)} pairs, {len(winners)} and {len(winners_swapped)} verdicts: need as many, and at least one"
        )
    share = 100 / len(gold)
    return {
        "accuracy": share * sum(a == b for a, b in zip(gold, winners, strict=True)),
        "accuracy_swapped": share * sum(a == b for a, b in zip(gold, winners_swapped, strict=True)),
        "agreement": share * sum(a == b for a, b in zip(winners, winners_swapped, strict=True)),
    }


def kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float | None:
    """Cohen's kappa of two judges' labels: agreement beyond that of their own frequencies, 1 at the most.

    None where both give one label throughout: chance then agrees always. Raises ValueError as `pair_agreement` does.
    """
    if not len(first) == len(second) > 0:
        raise ValueError(f"{len(first)} and {len(second)} labels: need as many, and at least one")
    counts, total = (Counter(first), Counter(second)), len(first)
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / total
    by_chance = sum(counts[0][label] * counts[1][label] for label in counts[0]) / total**2
    return None if by_chance == 1 else (observed - by_chance) / (1 - by_chance)


def score_agreement(
    gold: Sequence[str], found: Sequence[Sequence[str | None]], *, resamples: int = RESAMPLES, seed: int = 0
) -> ScoreAgreement:
    """How far a judge's scores agree with people's.

    gold: of N things that were judged, in one spelling; found: N rows of n scores in the same spelling, None where the judge's
    could not be read. Kappa takes chance from both marginals, over all N n pairs. Raises ValueError for nothing, or ragged rows.
    """
    if not len(gold) == len(found) > 0 or len({len(row) for row in found}) > 1 or not found[0]:
        raise ValueError(f"{len(gold)} scores and {len(found)} rows of a judge's: need as many, all of one length")
    names: list[str | None] = list(dict.fromkeys([*gold, *(score for row in found for score in row)]))
    number = {name: at for at, name in enumerate(names)}
    truth = np.array([[number[score]] * len(found[0]) for score in gold])
    told = np.array([[number[score] for score in row] for row in found])
    values = np.array([_value(name) for name in names])

    def accuracy(rows: NDArray[np.int64]) -> float | None:
        return float((truth[rows] == told[rows]).mean())

    def agreement(rows: NDArray[np.int64]) -> float | None:
        counts = np.bincount((truth[rows] * len(names) + told[rows]).ravel(), minlength=len(names) ** 2)
        table = counts.reshape(len(names), -1) / counts.sum()
        by_chance = float(table.sum(axis=1) @ table.sum(axis=0))
        return None if by_chance > 1 - 1e-12 else (float(np.trace(table)) - by_chance) / (1 - by_chance)

    def correlation(rows: NDArray[np.int64]) -> float | None:
        one, other = values[truth[rows]].ravel(), values[told[rows]].ravel()
        there = ~(np.isnan(one) | np.isnan(other))
        one, other = one[there], other[there]
        if len(one) < 2 or one.std() == 0 or other.std() == 0:
            return None
        return float(np.corrcoef(one, other)[0, 1])

    def both(measure: Callable[[NDArray[np.int64]], float | None]) -> tuple[float | None, Interval | None]:
        generator, size = np.random.default_rng(seed), len(gold)
        drawn = [measure(generator.integers(size, size=size)) for _ in range(resamples)]
        kept = [value for value in drawn if value is not None]
        ends = np.quantile(kept, [0.025, 0.975]).tolist() if kept else None
        whole = measure(np.arange(size))
        return whole, None if ends is None or whole is None else (ends[0], ends[1])

    (right, right_ends), (beyond, beyond_ends), (linear, linear_ends) = map(both, (accuracy, agreement, correlation))
    assert right is not None
    assert right_ends is not None
    unreadable = sum(score is None for row in found for score in row)
    counts = (len(gold), len(found[0]), unreadable)
    return ScoreAgreement(*counts, right, right_ends, beyond, beyond_ends, linear, linear_ends)


def _value(score: str | None) -> float:
    """A score as a number, NaN where it is none."""
    try:
        value = float(score or "nan")
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan
