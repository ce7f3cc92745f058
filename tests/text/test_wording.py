"""Words, formulas and keys of problems: typing must not matter, numbers and signs must."""

from __future__ import annotations

import pytest

from redi_ray.text.wording import formulas, ngrams, symbols, whole_key, words

TYPED = [
    r"If $x^2+5x = 6$, what's the well-known value of $\frac{1}{2}x$? It costs $1,000$.",
    r"IF \(x^{2} + 5 x=6\) what's the well known value of $\dfrac{1}{2}\,x$? It costs \$1000",
    "If $x\u00b2 + 5x=6$; what\u2019s the well\u2013known value of\n$\\displaystyle\\frac{1}{2} x$: it costs $1{,}000$!",
]


@pytest.mark.parametrize("text", TYPED)
def test_typing_does_not_matter(text: str):
    spelled = "if x 2 5 x 6 whats the well known value of frac 1 2 x it costs 1000"
    assert " ".join(words(text)) == spelled
    assert formulas(text) == formulas(TYPED[0]) == sorted(["^2+5=6", r"\frac1", "2", "1000"])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Factor $x^2+5x+6$.", "Factor $x^2-5x+6$."),
        ("Compute 5!", "Compute 5"),
        ("Compute 1.5 + 2", "Compute 15 + 2"),
        (r"Find $\sin 3$", r"Find $\cos 3$"),
        ("1+2*3-4", "1+2*4-3"),
        (r"Is $x \le 3$?", "Is $x < 3$?"),
    ],
)
def test_numbers_and_signs_matter(one: str, other: str):
    assert formulas(one) != formulas(other)


@pytest.mark.parametrize(
    ("one", "other"), [("Find 2\u2074.", "Find 24."), ("is 10\u2076?", "is 106?"), ("\u00bd of it", "12 of it")]
)
def test_powers_are_no_digits(one: str, other: str):
    """A problem and another one with the digits of its power were duplicates, and the benchmark's contamination."""
    assert words(one) != words(other)
    assert formulas(one) != formulas(other)
    assert whole_key(one) != whole_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("is 10\u2076?", "is $10^{6}$?"), (r"$\dbinom{5}{2}$", r"$\binom52$"), ("x \u2265 \u00bd", r"$x\ge\frac12$")],
)
def test_unicode_is_spelled_as_latex(one: str, other: str):
    assert (words(one), formulas(one), whole_key(one)) == (words(other), formulas(other), whole_key(other))


def test_clauses_may_change_places():
    assert formulas("If $a=2b$ and $c=3$, find it.") == formulas("Find it, if $c=3$ and $a=2b$")


@pytest.mark.parametrize(
    ("one", "other"), [("the point (1, 23)", "the point (12, 3)"), ("1.5 of 2", "15 of 2"), ("2+3", "2*3")]
)
def test_whole_keys_keep_numbers_apart(one: str, other: str):
    assert whole_key(one) != whole_key(other)


def test_figures_are_no_words_but_symbols():
    text = "What is the area? [asy]draw((0,0)--(3,4));[/asy]"
    assert words(text) == ["what", "is", "the", "area"]
    assert {"3", "4", "draw"} <= set(symbols(text))


def test_every_ideograph_is_a_word():
    assert words("求x的值") == ["求", "x", "的", "值"]


def test_ngrams_of_short_texts():
    assert ngrams(["a", "b", "c"], 2) == ["a b", "b c"]
    assert ngrams(["a", "b"], 3) == ["a b"]
    assert ngrams([], 3) == []
