"""Spellings of one problem have one key, different problems have different ones."""

from __future__ import annotations

import pytest

from redi_ray.text.problem_key import problem_key


@pytest.mark.parametrize(
    "spelling",
    [
        "Find $x$, if $x + 1 = 2$.",
        "find  x if\n\\(x+1 = 2\\)",
        "Find $x$, if $\\left. x\\,+\\;1=2 \\right.$!",
        "Find x, if \uff58+1=2",
    ],
)
def test_spellings(spelling: str) -> None:
    assert problem_key(spelling) == "findxifx+1=2"


def test_what_carries_meaning_stays() -> None:
    """Operators above all: in the built-in world they are the whole difference."""
    texts = ["3+4*2", "3-4*2", "3+4*3", r"\frac{1}{2}", r"\frac{2}{1}", "x^2", "x_2", "x>2", "x<2", r"\leftarrow x"]
    texts += ["5!", "5", "1.5x", "15x", "3:4", "34", "f'(x)", "f(x)"]
    assert len({problem_key(text) for text in texts}) == len(texts)
