r"""Quantities whose words and signs count: `6\text{ hours }30\text{ minutes}`, `3\text{ p.m.}`, `5\text{ km north}`.

A unit behind one number is ignored (see the table in `redi_ray.text.answers`), and to Math-Verify all text at an answer's
end is a unit. What is no unit is compared here.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from redi_ray.text.normalize import TEXT, repair

NUMBER = r"(?:\d+(?:\.\d+)?|\.\d+|\\frac\{\d+\}\{\d+\}|\d+/\d+)"
PART = re.compile(rf"({NUMBER})\s*(''|'|\"|[a-z]+)\.?")
MIXED = re.compile(rf"(-?)\s*((?:{NUMBER}\s*(?:''|'|\"|[a-z]+)\.?\s*(?:,|;|and|&|\+)?\s*)+)")
LENGTHS: dict[str, Any] = {
    "in": 1,
    "ft": 12,
    "yd": 36,
    "mi": 63360,
    "mm": "5/127",
    "cm": "50/127",
    "m": "5000/127",
    "km": "5000000/127",
}
TIMES = {"s": 1, "min": 60, "h": 3600, "d": 86400, "wk": 604800}
ANGLES = {"''": 1, "'": 60, "deg": 3600}
FACTORS: dict[str, dict[str, Any]] = {
    "length": {**LENGTHS, "'": 12, "''": 1},
    "time": TIMES,
    "angle": {**ANGLES, "min": 60, "s": 1},
    "months": {"month": 1, "yr": 12},
    "money": {"cent": 1, "dollar": 100, "euro": 100, "pence": 1, "lb": 100},
    "mass": {"mg": 1, "g": 1000, "kg": 1000000, "t": 1000000000},
    "weight": {"oz": 1, "lb": 16},
    "volume": {"ml": 1, "l": 1000},
    "gallons": {"cup": 1, "pint": 2, "quart": 4, "gal": 16},
}
"""Factors of units that are written side by side, in the smallest of each kind."""
SPELLINGS = {
    spelling: unit
    for unit, spellings in {
        "in": "inch inche", "ft": "foot feet", "yd": "yard", "mi": "mile", "mm": "millimeter millimetre",
        "cm": "centimeter centimetre", "m": "meter metre", "km": "kilometer kilometre",
        "s": "sec second", "min": "minute", "h": "hr hour", "d": "day", "wk": "week", "yr": "year", "month": "mo",
        "deg": "degree", "''": '" arcsec arcsecond', "'": "arcmin arcminute", "cent": "c", "pence": "penny p",
        "mg": "milligram", "g": "gram gm", "kg": "kilogram kilo", "t": "tonne", "oz": "ounce", "lb": "pound",
        "ml": "milliliter millilitre", "l": "liter litre", "pint": "pt", "quart": "qt", "gal": "gallon",
    }.items()
    for spelling in spellings.split()
}  # fmt: skip
KNOWN = {unit for units in FACTORS.values() for unit in units}
CLOCK = re.compile(r"(\d{1,2})(?:[:.](\d\d))?(?::(\d\d))?\s*(?:(a|p)\.?\s?m\b\.?|(noon|midnight))?|(noon|midnight)")
HALF_DAY = re.compile(r"\d\s*[ap]\.?\s?m\b|noon|midnight")
MODULUS = re.compile(r"\\?[pb]?mod(?![a-z])\s*\{?\s*(\d+)|\bmodulo\s*(\d+)")
ANGLE = re.compile(r"\\angle\s*\{?\s*([A-Z])\s*([A-Z])\s*([A-Z])\s*\}?")
CONGRUENCE = re.compile(r"(?:[a-z]\s*\\equiv\s*)?(-?\d+)\s*\(?\s*\\?[pb]?mod(?:ulo)?\s*\{?\s*(\d+)\s*\}?\s*\)?")
OPPOSITES = (
    r"(north-?east)\w*|(north-?west)\w*|(south-?east)\w*|(south-?west)\w*|(north|south|east|west)(?:ern|ward|wards)?",
    r"(left|right)(?:ward|wards)?",
    r"(up|down)(?:ward|wards)?",
    r"(?:counter-?|anti-?)(clock)wise|(clockwise)",
    r"(increas|decreas)\w*",
    r"(gain|profit|earn|los)\w*",
    r"(ris|ros|fall|fell|drop)\w*",
    r"(more|greater|less|fewer)",
    r"(at least|at most)",
    r"(above|below)",
    r"(before|after)",
    r"(even|odd)",
    r"(non-?negative|positive|negative)",
    r"(maximum|minimum)",
    r"(faster|slower)|(older|younger)|(taller|shorter)",
    r"(forward|backward)s?",
    r"(inside|outside)",
    r"(win|won|lose|lost)s?",
    r"(heads?|tails?)",
    r"deg ([nsew])\b",
    r"(bce?|b\.c\.|ad|a\.d\.|ce)",
)
GROUPS = [re.compile(rf"(?<![a-z\\])(?:{group})(?![a-z])") for group in OPPOSITES]
SAME = {
    "profit": "gain", "earn": "gain", "greater": "more", "fewer": "less", "won": "win", "lost": "lose", "head": "heads",
    "tail": "tails", "ros": "ris", "fell": "fall", "drop": "fall", "b.c.": "bc", "bce": "bc", "a.d.": "ad", "ce": "ad",
}  # fmt: skip


@dataclass(frozen=True)
class Mixed:
    """Numbers with units side by side."""

    negative: bool
    parts: tuple[tuple[str, Fraction], ...]

    @property
    def distinct(self) -> bool:
        """Whether no unit comes twice, as in a list of lengths."""
        return len({unit for unit, _ in self.parts}) == len(self.parts)

    def total(self, kind: str) -> Fraction | None:
        """The sum in the smallest unit of `kind`, None where a unit is of another kind."""
        factors = FACTORS[kind]
        if not all(unit in factors for unit, _ in self.parts):
            return None
        return (
            sum((number * Fraction(factors[unit]) for unit, number in self.parts), Fraction()) * (-1) ** self.negative
        )


def words_of(answer: str) -> str:
    """An answer in lower case, its text out of LaTeX's commands."""
    text = re.sub(r"\^\s*\{?\s*\\prime\s*\\prime\s*\}?", "''", repair(answer))
    text = re.sub(r"\^\s*\{?\s*\\prime\s*\}?|\\prime", "'", text)
    text = re.sub(r"\^\s*\{?\s*\\circ\s*\}?", " deg ", TEXT.sub(r" \1 ", text))
    return re.sub(r"\\[,;:! ]|\\q?quad(?![a-z])|[~\s]+", " ", text).replace("\\&", "&").casefold().strip()


def read_mixed(answer: str) -> Mixed | None:
    """The quantities of an answer that is nothing but numbers, each with its unit; None for all else."""
    text = words_of(answer)
    match = MIXED.fullmatch(text)
    if match is None:
        return None
    found = [(_unit(unit), _number(number)) for number, unit in PART.findall(match[2])]
    if not all(unit in KNOWN or len(unit) > 2 for unit, _ in found):
        return None
    return Mixed(bool(match[1]), tuple(found))


def _unit(word: str) -> str:
    stem = word.removesuffix("s") if len(word) > 1 else word
    return SPELLINGS.get(word) or SPELLINGS.get(stem) or stem


def _number(text: str) -> Fraction:
    parts = re.findall(r"[\d.]+", text)
    return Fraction(parts[0]) / Fraction(parts[1]) if len(parts) == 2 and Fraction(parts[1]) else Fraction(parts[0])


def mixed_equal(gold: str, answer: str) -> bool | None:
    """Whether two quantities are the same, of which one at least has several units; None where neither has."""
    one, other = read_mixed(gold), read_mixed(answer)
    if max(len(side.parts) if side else 0 for side in (one, other)) < 2:
        return None
    if one is None or other is None:  # a list of things may stand without their names, 6 hours 30 minutes may not
        mixed = one or other
        return False if mixed and any(mixed.total(kind) is not None for kind in FACTORS) and mixed.distinct else None
    if not (one.distinct and other.distinct):
        return None
    for kind in FACTORS:
        ours, theirs = one.total(kind), other.total(kind)
        if ours is not None and theirs is not None:
            return ours == theirs
    return one.negative == other.negative and Counter(one.parts) == Counter(other.parts)


def times_equal(gold: str, answer: str) -> bool | None:
    """Whether two times of day are the same, of which one at least says which half; None where neither does."""
    texts = words_of(gold), words_of(answer)
    if not any(map(HALF_DAY.search, texts)):
        return None
    one, other = map(_seconds, texts)
    if one is None or other is None:
        return None
    if one[1] and other[1]:
        return one == other
    return one[0] % 43200 == other[0] % 43200 and not (one[0] >= 46800 and other[0] < 43200 and other[1])


def _seconds(text: str) -> tuple[int, bool] | None:
    """Seconds since midnight, and whether the half of the day is known."""
    match = CLOCK.fullmatch(text)
    if match is None:
        return None
    hour, minute, second, half, named, alone = match.groups()
    named = named or alone
    half = {"noon": "p", "midnight": "a", None: half}[named]
    hours = int(hour or 12) % 12 + 12 * (half == "p") if half else int(hour)
    return hours * 3600 + int(minute or 0) * 60 + int(second or 0), bool(half or hours > 12 or hours == 0)


def congruences_equal(gold: str, answer: str) -> bool | None:
    """Whether `3 \\pmod 5` and another are the same residue class; None where not both say a modulus."""
    ours, theirs = MODULUS.search(gold), MODULUS.search(answer)
    if ours is None or theirs is None:
        return None
    one, other = (CONGRUENCE.fullmatch(words_of(side)) for side in (gold, answer))
    if one is None or other is None:
        return None if {*ours.groups()} == {*theirs.groups()} else False
    return one[2] == other[2] and (int(one[1]) - int(other[1])) % max(1, int(one[2])) == 0


def angles_equal(gold: str, answer: str) -> bool | None:
    """Whether two angles named by three points have the same vertex and legs; to Math-Verify the points are factors."""
    one, other = (ANGLE.fullmatch(repair(side)) for side in (gold, answer))
    if one is None or other is None:
        return None
    return one[2] == other[2] and {one[1], one[3]} == {other[1], other[3]}


def opposed(gold: str, answer: str) -> bool:
    """Whether both answers say a word of the same kind, such as a direction, and none of them the same."""
    one, other = words_of(gold), words_of(answer)
    for group in GROUPS:
        ours = _said(group, one)
        if ours and (theirs := _said(group, other)) and not ours & theirs:
            return True
    return False


def _said(group: re.Pattern[str], text: str) -> set[str]:
    words = (next(filter(None, match.groups()), "") for match in group.finditer(text))
    return {SAME.get(word, word) for word in words}
