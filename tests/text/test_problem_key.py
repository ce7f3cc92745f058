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


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("10\u2076", "$10^6$"),
        ("10\u207b\u2076", "$10^{-6}$"),
        ("Find x\u00b2", "find $x^{2}$"),
        ("a\u2081", "$a_{1}$"),
        (r"\dbinom{5}{2}", r"\binom52"),
        ("\u00bd", r"\tfrac12"),
        ("\u221a(x+1)", r"\sqrt{x+1}"),
        ("x \u2264 3", r"$x\leqslant 3$"),
        ("x \u2264 3", "x <= 3"),
        ("90\u00b0", r"$90^{\circ}$"),
        ("\u03c0/2 \u2212 \u03b8", r"$\pi/2-\theta$"),
        ("2\u00d73", r"$2\times 3$"),
        (r"5\text{ cm}", "5 cm"),
        (r"\bigl(x\bigr)", r"\left(x\right)"),
    ],
)
def test_unicode_is_spelled_as_latex(one: str, other: str) -> None:
    assert problem_key(one) == problem_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2\u2074", "24"),
        ("10\u2076", "106"),
        ("10\u207b\u2076", "10\u2076"),
        ("x\u00b2", "x2"),
        ("a\u2081", "a\u00b9"),
        ("\u00bd", "12"),
        ("2\u00bd", "21/2"),
        ("\u221a2", "2"),
        (r"\binom{5}{2}", r"\frac{5}{2}"),
        (r"\frac{1}{23}", r"\frac{12}{3}"),
        ("x^{12}", "x^12"),
        ("f'(x)", "f''(x)"),
    ],
)
def test_powers_are_no_digits(one: str, other: str) -> None:
    assert problem_key(one) != problem_key(other)


def test_what_carries_meaning_stays() -> None:
    """Operators above all: in the built-in world they are the whole difference."""
    texts = ["3+4*2", "3-4*2", "3+4*3", r"\frac{1}{2}", r"\frac{2}{1}", "x^2", "x_2", "x>2", "x<2", r"\leftarrow x"]
    texts += ["5!", "5", "1.5x", "15x", "3:4", "34", "f'(x)", "f(x)"]
    assert len({problem_key(text) for text in texts}) == len(texts)
