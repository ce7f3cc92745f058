"""How well the first wrong step of solutions is found, and how well scores of steps tell wrong from right ones.

The measure of ProcessBench: a prediction is right where it names exactly the first wrong step, or none where none is wrong;
accuracy on the solutions with a wrong step and on those without, and the harmonic mean of the two.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

NONE = -1
"""No step is wrong; null says the same."""
UNREADABLE = -2
"""A prediction that nobody could read: right of no solution."""
MOST_STEPS = 2**31


def first_error_scores(labels: Sequence[int | None], predictions: Sequence[int | None]) -> dict[str, float | None]:
    """{`wrong_accuracy`, `right_accuracy`, `f1`}, in percent.

    labels, predictions: `[N]`, index of each solution's first wrong step, null or -1 where no step is wrong. An accuracy is None
    where there is no such solution, and F1 with it. Raises ValueError for a prediction too many or too few, or for what is
    no index.

    Example: of accuracies 80 and 60 F1 is 68.571429.
    """
    truth, found = _indices(labels), _indices(predictions)
    if len(truth) != len(found):
        raise ValueError(f"{len(found)} predictions for {len(truth)} solutions; there must be one for each")
    if (truth < NONE).any():
        raise ValueError(f"a label is the index of a step, -1 or null, not {truth.min()}")
    hit, wrong = truth == found, truth >= 0
    of_wrong, of_right = (100.0 * float(hit[some].mean()) if some.any() else None for some in (wrong, ~wrong))
    f1 = None
    if of_wrong is not None and of_right is not None:
        f1 = 2 * of_wrong * of_right / (of_wrong + of_right) if of_wrong + of_right else 0.0
    return {"wrong_accuracy": of_wrong, "right_accuracy": of_right, "f1": f1}


def step_auc(scores: ArrayLike, right: ArrayLike) -> float | None:
    """How likely a right step has a higher score than a wrong one, ties half: the area under the ROC curve, in [0, 1].

    scores: float `[N]`; right: bool `[N]`. None where all steps are right, or all are wrong.
    """
    values, positive = np.asarray(scores, float), np.asarray(right, bool)
    if not np.isfinite(values).all():
        raise ValueError("a score of a step is no finite number")
    count = int(positive.sum())
    if count in (0, len(positive)):
        return None
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]  # of equal ones the mean
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (len(positive) - count)))


def _indices(values: Sequence[int | None]) -> np.ndarray:
    whole = [value for value in values if value is not None]
    if odd := [value for value in whole if isinstance(value, bool) or not isinstance(value, int | np.integer)]:
        raise ValueError(f"the index of a step is an integer, -1 or null, not {odd[0]!r}")
    if far := [value for value in whole if abs(value) > MOST_STEPS]:
        raise ValueError(f"{far[0]} is the index of no step")
    return np.array([NONE if value is None else value for value in values], np.int64)


def first_below(values: np.ndarray, starts: np.ndarray, threshold: float) -> np.ndarray:
    """`[N]`, of each solution the first step whose value is below, strictly; -1 where none is.

    values: float `[S]`, of all solutions' steps, one solution behind the other; starts: int `[N]`, where each begins; each has
    a step.
    """
    places = np.arange(len(values)) - np.repeat(starts, np.diff([*starts, len(values)]))
    none = np.iinfo(np.int64).max
    first = np.minimum.reduceat(np.where(values < threshold, places, none), starts)
    return np.where(first == none, NONE, first)


def best_in_hindsight(
    labels: Sequence[int | None], values: np.ndarray, starts: np.ndarray, tries: int = 100
) -> dict[str, float | None]:
    """The scores of `first_error_scores` at the threshold with the best F1, and that `threshold`: the most that a baseline could
    reach, since it is looked for on the very solutions.

    labels: `[N]`; values, starts: as in `first_below`. tries: quantiles of the values that are tried, and one above all.
    """
    found: dict[str, float | None] = {}
    for threshold in np.unique([*np.quantile(values, np.linspace(0, 1, tries)), np.nextafter(values.max(), np.inf)]):
        scores = first_error_scores(labels, first_below(values, starts, threshold).tolist())
        if not found or (scores["f1"] or 0.0) > (found["f1"] or 0.0):
            found = {**scores, "threshold": float(threshold)}
    return found
