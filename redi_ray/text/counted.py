"""Numbers that a problem's text names, in figures or in words, in one spelling."""

from __future__ import annotations

from fractions import Fraction

from redi_ray.text.wording import FIGURE, tokenize

ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen "
    "nineteen"
)
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth"
WORDS = {
    **{word: number for number, word in enumerate(ONES.split())},
    **{word: 10 * number for number, word in enumerate(TENS.split(), start=2)},
    **{word: number for number, word in enumerate(ORDINALS.split(), start=1)},
    **{"once": 1, "twice": 2, "thrice": 3, "double": 2, "triple": 3, "half": 2, "quarter": 4, "dozen": 12},
    **{"thirds": 3, "quarters": 4, "fifths": 5, "hundred": 100, "thousand": 1000, "million": 10**6},
}
"""A fraction's word counts as its denominator: `half` is written `1/2` elsewhere."""


def figures(text: str) -> set[str]:
    """Numbers in figures, `2.50` and `2.5` alike."""
    return {str(Fraction(token)) for kind, token in tokenize(FIGURE.sub(" ", text)) if kind == "number"}


def numbers_named(text: str) -> set[str]:
    """Those, and the numbers in words."""
    said = {str(WORDS[token]) for kind, token in tokenize(FIGURE.sub(" ", text)) if kind == "word" and token in WORDS}
    return figures(text) | said | {"1"}  # a one is often not said at all: `an hour`, `1/2` and `half`
