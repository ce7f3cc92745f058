"""Quantities, and the perturbation that gives them in smaller units."""

from __future__ import annotations

import random
import re
from collections import Counter
from fractions import Fraction

from redi_ray.config.perturb import Units
from redi_ray.text.number_words import FIGURE, FORMULA, outside_formulas
from redi_ray.text.sentences import sentences
from redi_ray.text.variants import NotPerturbed, Perturbation, Problem

SIZES: dict[str, dict[str, int]] = {
    "time": {"second": 1, "minute": 60, "hour": 3600},
    "inches": {"inch": 1, "foot": 12, "yard": 36},
    "metres": {"centimeter": 1, "meter": 100, "kilometer": 100_000},
    "ounces": {"ounce": 1, "pound": 16},
    "grams": {"gram": 1, "kilogram": 1000},
    "millilitres": {"milliliter": 1, "liter": 1000},
}
"""Dimension -> unit -> how many of the smallest it is. Days and longer are left out: who works 6 hours a day for 3 days does not
work for 72 hours."""
SMALLER = {
    "minute": "second", "hour": "minute", "foot": "inch", "yard": "foot", "meter": "centimeter", "kilometer": "meter",
    "pound": "ounce", "kilogram": "gram", "liter": "milliliter",
}  # fmt: skip
SPELLED = {"inch": ("inch", "inches"), "foot": ("foot", "feet")}
SPELLINGS = {unit: SPELLED.get(unit, (unit, f"{unit}s")) for sizes in SIZES.values() for unit in sizes}
UNIT_OF = {spelling: unit for unit, spellings in SPELLINGS.items() for spelling in spellings}
DIMENSION_OF = {unit: dimension for dimension, sizes in SIZES.items() for unit in sizes}
NAMED = "|".join(sorted(UNIT_OF, key=len, reverse=True))
QUANTITY = re.compile(
    rf"(?<![\w$.,/:^-])(\d{{1,3}}(?:,\d{{3}})+|\d+(?:\.\d+)?) ({NAMED})\b(?!\s*(?:per|an?|each|every|apart|/)\b|\s*/|-)",
    re.IGNORECASE,
)
"""A number and a unit, but for rates (`3 days a week`)."""
STERLING = re.compile(r"\b(?:British|sterling|euros?|currency|USD)\b|\u00a3", re.IGNORECASE)
"""Where a pound may be money."""
ASKS = re.compile(
    rf"\b(?:how many (?!more\b|times\b)\w+|{NAMED}|dollars?|cents?|money|cost|price|earn|pay|paid|spend|percent(?:age)?)\b",
    re.IGNORECASE,
)
"""A question that says what it counts: without it the answer may be in the unit that the facts are in."""


def _restate(problem: Problem, chance: random.Random, settings: Units) -> str:
    parts = sentences(problem.text)
    if not parts or not ASKS.search(parts[-1]):
        raise NotPerturbed("asks_in_no_unit")
    prose = FORMULA.sub(" ", problem.text)
    found = sorted({unit for _, told in QUANTITY.findall(prose) if (unit := UNIT_OF[told.lower()]) in SMALLER})
    found = [unit for unit in found if unit != "pound" or not STERLING.search(problem.text)]
    if not found:
        raise NotPerturbed("no_quantity")
    chosen = chance.choice(found)
    smaller = SMALLER[chosen]
    sizes = SIZES[DIMENSION_OF[chosen]]

    def restated(match: re.Match[str]) -> str:
        if UNIT_OF[match.group(2).lower()] != chosen:
            return match.group()
        value = Fraction(match.group(1).replace(",", "")) * sizes[chosen] / sizes[smaller]
        if value.denominator != 1:
            return match.group()
        return f"{value.numerator} {SPELLINGS[smaller][value != 1]}"

    changed = outside_formulas(problem.text, lambda text: QUANTITY.sub(restated, text))
    if changed == problem.text:
        raise NotPerturbed("no_quantity")
    return changed


def _restated(problem: Problem, variant: str) -> str | None:
    """The quantities are as large as they were, of the same kind and in the same order; all else is the same."""
    if _quantities(problem.text) != _quantities(variant):
        return "quantities_changed"
    before, after = (Counter(FIGURE.findall(QUANTITY.sub("", text))) for text in (problem.text, variant))
    same = before == after and QUANTITY.sub("#", problem.text) == QUANTITY.sub("#", variant)
    return None if same else "words_changed"


def _quantities(text: str) -> list[tuple[str, Fraction]]:
    found = [(Fraction(number.replace(",", "")), UNIT_OF[told.lower()]) for number, told in QUANTITY.findall(text)]
    return [(DIMENSION_OF[unit], number * SIZES[DIMENSION_OF[unit]][unit]) for number, unit in found]


UNITS = Perturbation(_restate, _restated)
