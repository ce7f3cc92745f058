"""Both searches end at the first step behind which all is lost, at the cost that they promise."""

from __future__ import annotations

import math

import pytest

from redi_ray.config.locators import RolloutLocator
from redi_ray.data.locate.search import Found, Stuck, next_step


def search(truth: list[float | None], wrong: bool = True, **settings) -> tuple[Found | Stuck, int]:
    """The end, and how many steps were gone on from. truth: rate behind each step."""
    locator, rates = RolloutLocator(kind="rollouts", **settings), {}
    while isinstance(step := next_step(len(truth), wrong, rates, locator), int):
        assert step not in rates
        rates[step] = truth[step]
    return step, len(rates)


@pytest.mark.parametrize("steps", [1, 2, 3, 8, 13])
def test_a_monotone_sample(steps: int):
    for first in range(steps):
        truth = [0.5] * first + [0.0] * (steps - first)
        found, cost = search(truth, search="linear")
        assert (found, cost) == (Found(first), min(first + 1, steps - 1))
        found, cost = search(truth, search="binary")
        assert found == Found(first)
        assert cost <= math.ceil(math.log2(steps))


def test_thresholds_right_samples_and_what_is_unknown():
    truth = [0.9, 0.2, 0.1, 0.0, 0.0]
    for how in ("linear", "binary"):
        assert [search(truth, search=how, threshold=t)[0] for t in (0, 0.1, 0.2)] == [Found(3), Found(2), Found(1)]
    assert search(truth, wrong=False, search="linear") == (Found(3), 4)
    assert search([1.0] * 5, wrong=False, search="linear") == (Found(None), 4)
    assert search(truth, wrong=False, search="binary") == (Found(None), 0), "it has nothing to halve"
    assert search([1.0, None, 0.0], search="linear") == (Stuck(1), 2)
    assert search([1.0, None, 0.0], search="binary") == (Stuck(1), 2)
