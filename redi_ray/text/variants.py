"""Variants of a problem: under which ids they go, and what makes and checks each kind of them in a text of words. Pure.

What makes a variant is not what checks it: a check reads both texts afresh, so that a mistake of the one is not the other's too.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MARK = "~"
"""Between an original's id and what was changed."""


def variant_id(original: str, perturbation: str) -> str:
    """The id of a variant.

    Example: `variant_id("train-7", "names") == "train-7~names"`.
    """
    return f"{original}{MARK}{perturbation}"


def origin_of(problem_id: str) -> tuple[str, str] | None:
    """(the original's id, what was changed) of a variant's id; None of any other."""
    original, mark, perturbation = problem_id.rpartition(MARK)
    return (original, perturbation) if mark and original and perturbation else None


class NotPerturbed(Exception):
    """A problem gives no variant of this kind; the message is the reason, in one word."""


@dataclass(frozen=True)
class Problem:
    """What is changed."""

    text: str
    answer: str


Make = Callable[[Problem, random.Random, Any], str]
"""(problem, source of chance, settings) -> the variant's text. Raises NotPerturbed."""
Check = Callable[[Problem, str], str | None]
"""(original, the variant's text) -> why it may not keep the answer, in one word; None if it does."""


@dataclass(frozen=True)
class Perturbation:
    """One kind of variant, which is meant to keep the answer."""

    make: Make
    check: Check
