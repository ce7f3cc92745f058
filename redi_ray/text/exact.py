r"""Answers that are one number, read exactly: `-7`, `\frac{3}{4}`, `0.25`, `1.6\times10^{-19}`, `0.\overline{3}`, `1011_2`.

Floating point knows 15 digits, and rounding to 6 decimal places makes all small numbers zero. Here nothing is lost: whole
numbers and fractions are equal if they are, decimals if they agree to the decimal places asked for and, where they are
small, to as many significant digits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from redi_ray.text.normalize import STYLE, TEXT, number_of, repair

MAX_EXPONENT = 4000
MAX_CHARS = 3000
"""More digits than this take Python long to read."""
RATIONAL = re.compile(r"([-+]?)\\frac\{([-+]?\d+)\}\{([-+]?\d+)\}|([-+]?\d+)/(\d+)")
DECIMAL = re.compile(
    r"([-+]?)(\d*)(\.\d*)(?:\\(?:overline|bar|dot)\{(\d+)\}|\((\d+)\))"
    r"|([-+]?)(\d+\.?\d*|\.\d+)(?:(?:\\times|\\cdot|\*)10\^(?:\{([-+]?\d+)\}|([-+]?\d+)))?|([-+]?)10\^(?:\{([-+]?\d+)\}|(\d))"
)
PROGRAMMED = re.compile(r"([-+]?)0([xbo])([0-9a-fA-F]+)")
BASED = re.compile(r"\(?([0-9A-Z]+)\)?_(?:\{(\w+)\}|(\d))|([0-9A-Z]+)\(?(?:in)?base\{?(\w+)\}?\)?")
HAS_BASE = re.compile(r"_|base|^\$?0[xbo]")
PREFIXES = {"x": 16, "b": 2, "o": 8}
BASES = {
    word: base
    for base, word in enumerate(
        ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"), 2
    )
} | {"sixteen": 16, "bin": 2, "oct": 8, "dec": 10, "hex": 16}


@dataclass(frozen=True)
class Exact:
    """One number."""

    value: Fraction
    rounded: bool
    """Whether it is a decimal, which may stand for a number close to it."""


@dataclass(frozen=True)
class Based:
    """Digits in a base: `1011_2`."""

    digits: str
    base: int

    @property
    def value(self) -> Fraction | None:
        """None where the digits are none of this base."""
        try:
            return Fraction(int(self.digits, self.base))
        except ValueError:
            return None


def close(one: Fraction, other: Fraction, places: int) -> bool:
    """Whether two numbers agree to `places` decimal places and, below a thousandth or so, to as many significant digits.

    A thousandth is where `places` decimal places still hold three significant digits; with fewer than 4 places it is a
    tenth.
    """
    if round(one, places) != round(other, places):
        return False
    largest = max(abs(one), abs(other))
    if one == other or largest >= min(Fraction(1, 10), Fraction(10) ** (3 - places)):
        return True
    digits = places + len(str(int(1 / largest))) - 1
    return round(one, digits) == round(other, digits)


def read_number(answer: str) -> Exact | None:
    """The one number that a bare answer is, with or without a unit; None where it is anything else."""
    text = _tight(number_of(repair(answer)))
    if not text or len(text) > MAX_CHARS:
        return None
    if match := RATIONAL.fullmatch(text):
        sign, top, bottom, numerator, denominator = match.groups()
        divisor = int(bottom or denominator)
        return None if divisor == 0 else Exact(_signed(sign, Fraction(int(top or numerator), divisor)), rounded=False)
    if match := PROGRAMMED.fullmatch(text):
        based = Based(match[3], PREFIXES[match[2]])
        return None if based.value is None else Exact(_signed(match[1], based.value), rounded=False)
    return _decimal(text)


def _tight(text: str) -> str:
    return re.sub(r"(?<!\d)\s+|\s+(?!\d)|\\[,;:! ]|~", "", STYLE.sub("", text))


def _signed(sign: str | None, value: Fraction) -> Fraction:
    return -value if sign == "-" else value


def _decimal(text: str) -> Exact | None:
    match = DECIMAL.fullmatch(text)
    if match is None:
        return None
    if period := match[4] or match[5]:
        start = Fraction(f"{match[2] or 0}{match[3]}0")
        rest = Fraction(int(period), 10 ** len(period) - 1) / 10 ** (len(match[3]) - 1)
        return Exact(_signed(match[1], start + rest), rounded=False)
    sign, number = match[6] or match[10], match[7] or "1"
    exponent = int(match[8] or match[9] or match[11] or match[12] or 0)
    if abs(exponent) > MAX_EXPONENT:
        return None
    return Exact(_signed(sign, Fraction(number) * Fraction(10) ** exponent), rounded="." in number or exponent < 0)


def read_based(answer: str) -> Based | None:
    r"""Digits in a base, from `1011_2`, `(1011)_{\text{two}}`, `1011 (base 2)` or `0b1011`; None for all else, `a_2` too."""
    if not HAS_BASE.search(answer):
        return None
    text = re.sub(r"[\s~]", "", TEXT.sub(r"\1", STYLE.sub("", repair(answer))))
    if match := PROGRAMMED.fullmatch(text):
        return Based(match[3].upper().lstrip("0") or "0", PREFIXES[match[2]])
    match = BASED.fullmatch(text)
    if match is None:
        return None
    digits, name = match[1] or match[4], match[2] or match[3] or match[5]
    base = BASES.get(name.lower()) or (int(name) if name.isdigit() and len(name) < 4 else 0)
    if not 2 <= base <= 36 or not (any(map(str.isdigit, digits)) or len(digits) > 1):
        return None
    return Based(digits.lstrip("0") or "0", base)


def numbers_equal(gold: str, answer: str, places: int) -> bool | None:
    """Whether two answers are the same number; None where not both are numbers that can be read here."""
    one = read_number(gold)
    other = read_number(answer) if one else None
    if one is None or other is None:
        return _bases_equal(gold, answer)
    if one.rounded or other.rounded:
        return close(one.value, other.value, places)
    return one.value == other.value


def _bases_equal(gold: str, answer: str) -> bool | None:
    """The same where one is written in a base: by value, and by its digits where the other says nothing of a base."""
    one, other = read_based(gold), read_based(answer)
    if one and other:
        return one == other or (one.value is not None and one.value == other.value)
    based = one or other
    digits = _tight(number_of(repair(answer if one else gold)))
    if based is None or not (digits.isascii() and digits.isalnum() and any(map(str.isdigit, digits))):
        return None
    return (digits.lstrip("0") or "0") == based.digits
