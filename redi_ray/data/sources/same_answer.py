r"""Are two reference answers the same, however they are spelled? `0.5` and `\frac12` are no conflict."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from redi_ray.config.answers import AnswerSettings
from redi_ray.schemas import Verdict
from redi_ray.text.answers import quick_verdict
from redi_ray.text.isolation import ComparingPool
from redi_ray.text.numeric import evaluate

RELATIVE_ERROR = 1e-12
CACHED = 10_000
TIMEOUT_SECONDS = 2.0


def certainly_same(one: str, other: str) -> bool:
    """Whether two answers are equal at sight: in spelling, as exact numbers, or in value."""
    if one == other or Verdict.CORRECT in (quick_verdict(one, other), quick_verdict(other, one)):
        return True
    ours, theirs = evaluate(one), evaluate(other)
    if ours is None or theirs is None or ours.letters or theirs.letters:
        return False
    if ours.shape != theirs.shape or len(ours.parts) != len(theirs.parts):
        return False
    limit = RELATIVE_ERROR * max(1e-300, ours.size, theirs.size)
    return all(abs(a - b) <= limit for a, b in zip(ours.parts, theirs.parts, strict=True))


class SameAnswers:
    """Says whether two answers are the same, with Math-Verify where sight does not tell. Call `close` at the end."""

    def __init__(self) -> None:
        self._pool = ComparingPool(AnswerSettings(), timeout_seconds=TIMEOUT_SECONDS)
        self._compare: Callable[[str, str], bool] = lru_cache(CACHED)(self._ask)

    def __call__(self, one: str, other: str) -> bool:
        return certainly_same(one, other) or self._compare(one, other)

    def _ask(self, one: str, other: str) -> bool:
        return Verdict.CORRECT in self._pool.compare_many([(one, other), (other, one)])

    def close(self) -> None:
        self._pool.close()
