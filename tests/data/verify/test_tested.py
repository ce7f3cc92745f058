"""Verdicts by tests: sixty problems, and all that solutions can do other than solve them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from code_set import Solution, solutions
from sandboxes import isolation

from redi_ray.config.code import CodeSettings
from redi_ray.data.verify.tested import CodeVerifier

FAST = CodeSettings(
    cpu_seconds=1, idle_seconds=1.5, wall_seconds=30, output_bytes=100_000, memory_mb=512, isolation=isolation()
)


@pytest.fixture(scope="module")
def verifier() -> Iterator[CodeVerifier]:
    with CodeVerifier(FAST, processes=2) as shared:
        yield shared


SLOW = {"time", "stalled", "memory", "crashed"}
"""Reasons that take a while to come about."""


def faults(verifier: CodeVerifier, stated: list[Solution]) -> list[Any]:
    """The solutions of which something else is said than is stated."""
    found = verifier.verify_many([(one.completion, one.tests, True) for one in stated])
    assert [told.code for told in found] == [one.code for one in stated]
    return [
        (one.name, one.code, told.verdict, told.failures)
        for one, told in zip(stated, found, strict=True)
        if told.verdict != one.verdict
        or (told.failures[0].reason if told.failures else None) not in (one.reasons or {None})
    ]


def test_sixty_problems_with_right_wrong_failing_and_hostile_solutions(verifier: CodeVerifier):
    """Each has the verdict and the reason that the set states; 60 problems, 180 solutions with those of the next test."""
    assert Counter(one.verdict for one in solutions()) == {"correct": 60, "wrong": 114, "timeout": 4, "error": 2}
    assert faults(verifier, [one for one in solutions() if not one.reasons & SLOW]) == []


@pytest.mark.long
def test_those_that_are_slow_hang_or_fill_the_memory(verifier: CodeVerifier):
    assert faults(verifier, [one for one in solutions() if one.reasons & SLOW]) == []
