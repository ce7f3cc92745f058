"""Numbers in words and figures, read and written otherwise; quantities in smaller units."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from fractions import Fraction

from redi_ray.config.perturb import Numbers
from redi_ray.text.variants import NotPerturbed, Perturbation, Problem

SMALL = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
VALUES = {word: value for value, word in enumerate(SMALL)} | {word: 10 * ten for ten, word in enumerate(TENS, start=2)}
LARGEST = 999
"""Written in words."""
YEARS = range(1000, 2101)
"""Of four digits: never given a comma."""
WORDS = re.compile(
    rf"\b(?:(?:{'|'.join(SMALL)}) hundred(?: and)?(?:[ -]|\b)(?=(?:{'|'.join(SMALL + TENS)})\b)|(?:{'|'.join(SMALL)}) hundred\b)?"
    rf"(?:(?:{'|'.join(TENS)})(?:[ -](?:{'|'.join(SMALL[1:10])}))?\b|(?:{'|'.join(SMALL)})\b)?",
    re.IGNORECASE,
)
FIGURE = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+")
PLAIN = re.compile(
    r"(?<![-+*/=^<>] )"
    r"(?<![\w$\u20ac\u00a3.,/:%^_{}\\+*=<>-])(?:\d{1,3}(?:,\d{3})+|\d+)(?![\w%\u00b0/:^_{}\\*=<>+-]|[.,]\d|\s*[-+*/=^]|\s+\d)"
)
"""A whole number in prose: no part of a formula, a price, a date, a fraction, a range or an ordinal."""
FORMULA = re.compile(
    r"\$\$.+?\$\$|\$(?=\S)[^$\n]*?(?<=\S)\$(?!\d)|\\\(.+?\\\)|\\\[.+?\\\]|\\begin\{(\w+\*?)\}.*?\\end\{\1\}|\[asy\].*?\[/asy\]",
    re.DOTALL,
)
"""Mathematics, which is left as it stands; `$2 and $3` are prices."""


def outside_formulas(text: str, change: Callable[[str], str]) -> str:
    """The text, what is between its formulas changed."""
    found, start = [], 0
    for formula in FORMULA.finditer(text):
        found += [change(text[start : formula.start()]), formula.group()]
        start = formula.end()
    return "".join([*found, change(text[start:])])


def in_words(number: int) -> str:
    """A number from 0 to LARGEST in English words.

    Example: `in_words(342) == "three hundred forty-two"`.
    """
    hundreds, rest = divmod(number, 100)
    told = [f"{SMALL[hundreds]} hundred"] if hundreds else []
    if rest >= 20:
        ten, one = divmod(rest, 10)
        told.append(TENS[ten - 2] + (f"-{SMALL[one]}" if one else ""))
    elif rest or not hundreds:
        told.append(SMALL[rest])
    return " ".join(told)


def numbers_in(text: str) -> list[str]:
    """The numbers of a text in order, whether in figures or in words, in one spelling: `1,000` and `1000.0` are `1000`.

    Example: of "Three cats eat 1,500 g in twenty-one days" 3, 1500 and 21.
    """
    return [str(value) for value in values_in(text)]


def values_in(text: str) -> Iterator[Fraction]:
    """The same as numbers."""
    found = [(match.start(), Fraction(match.group().replace(",", ""))) for match in FIGURE.finditer(text)]
    found += [
        (match.start(), Fraction(_value(match.group()))) for match in WORDS.finditer(text) if match.group().strip()
    ]
    return (value for _, value in sorted(found, key=lambda one: one[0]))


def _value(told: str) -> int:
    total = 0
    for word in re.findall(r"[a-z]+", told.lower()):
        total = total * 100 if word == "hundred" else total + VALUES.get(word, 0)
    return total


def _restate(problem: Problem, chance: random.Random, settings: Numbers) -> str:
    def respelled(match: re.Match[str]) -> str:
        told = match.group()
        number = int(told.replace(",", ""))
        if number <= LARGEST and not (told.startswith("0") and told != "0"):
            return in_words(number)
        if "," in told:
            return str(number)
        return told if number in YEARS else f"{number:,}"

    found = outside_formulas(problem.text, lambda prose: PLAIN.sub(respelled, prose))
    if found == problem.text:
        raise NotPerturbed("no_number_in_prose")
    at = next(place for place, (one, other) in enumerate(zip(found, problem.text, strict=False)) if one != other)
    begins = at == 0 or re.search(r"[.!?]\s+$", found[:at])  # a sentence
    return found[:at] + found[at].upper() + found[at + 1 :] if begins else found


def _restated(problem: Problem, variant: str) -> str | None:
    """All numbers are read as the same ones, and all else is the same text."""
    if numbers_in(problem.text) != numbers_in(variant):
        return "numbers_changed"
    return None if _without_numbers(problem.text) == _without_numbers(variant) else "words_changed"


def _without_numbers(text: str) -> str:
    """The text with one sign in place of each number."""
    return WORDS.sub(lambda match: "#" if match.group().strip() else match.group(), FIGURE.sub("#", text)).casefold()


NUMBERS = Perturbation(_restate, _restated)
