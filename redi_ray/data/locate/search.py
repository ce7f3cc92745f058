"""The search for the first wrong step by success rates: which step to go on from next, or where the error is. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from redi_ray.config.locators import RolloutLocator

UNKNOWN = None
"""The rate behind a step from which no continuation came back."""


@dataclass(frozen=True)
class Found:
    """The end of a search: the first wrong step, None where no step is."""

    step: int | None


@dataclass(frozen=True)
class Stuck:
    """The end of a search at a step whose rate cannot be known."""

    step: int


def next_step(
    steps: int, wrong: bool, rates: Mapping[int, float | None], settings: RolloutLocator
) -> int | Found | Stuck:
    """The step to go on from, or the end.

    steps: how many there are. wrong: the whole sample has a wrong answer, so that behind its last step the rate is 0; it is 1
    where the answer is right. rates: step -> share of right continuations from behind it, in [0, 1].
    """
    return (_linear if settings.search == "linear" else _binary)(steps, wrong, rates, settings.threshold)


def _linear(steps: int, wrong: bool, rates: Mapping[int, float | None], threshold: float) -> int | Found | Stuck:
    for step in range(steps - 1):
        if step not in rates:
            return step
        if (rate := rates[step]) is UNKNOWN:
            return Stuck(step)
        if rate <= threshold:
            return Found(step)
    return Found(steps - 1 if wrong else None)


def _binary(steps: int, wrong: bool, rates: Mapping[int, float | None], threshold: float) -> int | Found | Stuck:
    if not wrong:
        return Found(None)
    good, lost = -1, steps - 1  # behind the one it can still be solved, behind the other not
    while lost - good > 1:
        step = (good + lost) // 2
        if step not in rates:
            return step
        if (rate := rates[step]) is UNKNOWN:
            return Stuck(step)
        good, lost = (good, step) if rate <= threshold else (step, lost)
    return Found(lost)
