r"""Have two answers certainly different values? A cheap evaluation of plain LaTeX in floating point.

Reading LaTeX into sympy takes milliseconds, and most answers that get so far are wrong: one number each shows it. What is
evaluated here has only one reading: numbers, letters, `\pi`, `\frac`, `\sqrt`, `+ - * / ^` and parentheses, alone, in
tuples, intervals and matrices, or behind `y =`. Anything else, and whatever Math-Verify reads in a way of its own (units
behind a number, mixed fractions, `f(x)`), is left to it, and so is all that looks equal.
"""

from __future__ import annotations

import cmath
import math
import re
from dataclasses import dataclass
from functools import lru_cache

from redi_ray.text.normalize import DECIMAL_COMMA, PLAIN_UNIT, STYLE, repair

MAX_CHARS = 300
TOKEN = re.compile(r"\s*(?:(\d+(?:\.\d+)?)|(\\[a-zA-Z]+)|([a-zA-Z])|([-+*/^(){}\[\]]))")
"""Groups: number, command, letter, sign."""
UNIT = re.compile(r"[\d}\s]\s*(?:[a-zA-Z]{2,}|[cdghlmost])$")
"""Math-Verify drops these letters at an answer's end."""
DEGREES = re.compile(r"(?:\^\{?\\circ\}?|\u00b0)$")
ASSIGNMENT = re.compile(r"([a-zA-Z])\s*=([^=,]+)$")
MATRIX = re.compile(r"\\begin\{([pb]matrix)\}(.*)\\end\{\1\}$", re.DOTALL)
TUPLE = re.compile(r"([(\[])(.*,.*)([)\]])$", re.DOTALL)
SET = re.compile(r"\\\{(.*)\\\}$", re.DOTALL)
TIMES = ("*", "\\cdot", "\\times")
FRACTIONS = ("\\frac", "\\dfrac", "\\tfrac")
CONSTANTS = {"\\pi": complex(math.pi), "e": complex(math.e), "i": 1j}
INFINITE = {"\\infty": 1e300, "+\\infty": 1e300, "-\\infty": -1e300}
GREEK = ("\\alpha", "\\beta", "\\gamma", "\\theta", "\\lambda", "\\mu", "\\omega", "\\phi")
MAX_EXPONENT = 10_000


class UnreadableError(ValueError):
    """Not for us to evaluate."""


@dataclass(frozen=True)
class Value:
    """An answer at one point."""

    shape: str
    """What it is: empty for a scalar or a set of them, brackets, rows of a matrix, or the name before a `=`."""
    parts: tuple[complex, ...]
    size: float
    """The largest number on the way, which limits how exact the parts are."""
    letters: bool
    """Whether it has variables."""

    def is_interval(self, limit: float) -> bool:
        return len(self.parts) == 2 and all(part.imag == 0 for part in self.parts) and self.width > limit

    @property
    def width(self) -> float:
        return self.parts[1].real - self.parts[0].real


def certainly_differ(gold: str, answer: str, *, decimals: int, strict_variables: bool) -> bool:
    """True if both can be evaluated and differ by more than what rounding to `decimals` hides.

    Variables have one fixed value each. Different values at one point prove expressions unequal, equal ones prove nothing.
    Without `strict_variables` they may stand for each other, and only numbers are told apart.
    """
    one, other = evaluate(gold), evaluate(answer)
    if one is None or other is None or (not strict_variables and (one.letters or other.letters)):
        return False
    limit = max(10.0 ** (1 - decimals), 1e-6, 1e-9 * max(one.size, other.size))
    if one.shape != other.shape:
        if one.shape[:1] in ("(", "[") and other.shape[:1] in ("(", "["):  # brackets decide
            return one.is_interval(limit) and other.is_interval(limit)
        if len(one.parts) != 1 or len(other.parts) != 1 or "" not in (one.shape, other.shape):
            return False
    if not one.shape:
        return _lacks(one, other, limit) or _lacks(other, one, limit)
    pairs = zip(one.parts, other.parts, strict=False)
    return len(one.parts) == len(other.parts) and any(abs(a - b) > limit for a, b in pairs)


def _lacks(one: Value, other: Value, limit: float) -> bool:
    """Whether `other` has a part that `one` has not."""
    return any(all(abs(a - b) > limit for a in one.parts) for b in other.parts)


@lru_cache(maxsize=4096)
def evaluate(answer: str) -> Value | None:
    """The value of a bare answer, None where it is not of the kind that is evaluated here."""
    text = DEGREES.sub("", STYLE.sub("", repair(answer)).strip())
    if (
        "$" in answer
        or len(text) > MAX_CHARS
        or UNIT.search(text)
        or PLAIN_UNIT.match(text)
        or DECIMAL_COMMA.match(text)
    ):
        return None
    try:
        shape, entries = _split(text)
        readers = [Reader(entry) for entry in entries]
        parts = tuple(reader.whole() for reader in readers)
        return Value(shape, parts, max(reader.size for reader in readers), any(reader.letters for reader in readers))
    except (UnreadableError, ArithmeticError, RecursionError):
        return None


def _split(text: str) -> tuple[str, list[str]]:
    """Shape and entries. A comma inside brackets leaves entries unbalanced, so that they cannot be read."""
    if match := MATRIX.match(text):
        rows = [row.split("&") for row in match.group(2).strip().removesuffix("\\\\").split("\\\\")]
        return f"matrix{[len(row) for row in rows]}", [entry for row in rows for entry in row]
    if match := TUPLE.match(text):
        opening, inside, closing = match.groups()
        return opening + closing, inside.split(",")
    if match := ASSIGNMENT.match(text):
        return match.group(1).lower() + "=", [match.group(2)]
    inside = match.group(1) if (match := SET.match(text)) else text
    items = inside.split(",")
    return "", [item.replace("\\pm", sign) for item in items for sign in ("+-" if "\\pm" in item else "+")]


class Reader:
    """Recursive descent over one expression; raises UnreadableError for what has no value or more than one reading."""

    def __init__(self, text: str) -> None:
        self.tokens: list[str] = []
        self.at, self.size, self.letters, position = 0, 0.0, False, 0
        text = text.strip()
        while position < len(text):
            match = TOKEN.match(text, position)
            if match is None:
                raise UnreadableError(text)
            self.tokens.append(match.group(match.lastindex or 0))
            position = match.end()
        self.tokens.append("")

    @property
    def next(self) -> str:
        return self.tokens[self.at]

    def take(self, *expected: str) -> str:
        token = self.next
        if not token or (expected and token not in expected):
            raise UnreadableError(token)
        self.at += 1
        return token

    def keep(self, value: complex) -> complex:
        """`value`, and its size noted, since adding a large number and taking it away again costs digits."""
        if not cmath.isfinite(value):
            raise UnreadableError("not finite")
        self.size = max(self.size, abs(value))
        return value

    def whole(self) -> complex:
        name = "".join(self.tokens)
        if name in INFINITE:
            return complex(INFINITE[name])
        value = self.sum()
        if self.next:
            raise UnreadableError(self.next)
        return value

    def sum(self) -> complex:
        total, sign = 0j, self.take() if self.next in ("+", "-") else "+"
        while True:
            term = self.product()
            total = self.keep(total + term if sign == "+" else total - term)
            if self.next not in ("+", "-"):
                return total
            sign = self.take()

    def product(self) -> complex:
        value, last, divided = self.power(), self._kind(self.at - 1), False
        while True:
            if self.next in TIMES:
                self.take()
                factor = self.power()
            elif self.next == "/":
                self.take()
                factor, divided = 1 / self.power(), True
            elif self.next and self.next not in "+-)}]^":
                self._check_juxtaposed(last, divided)
                factor = self.power()
            else:
                return value
            value, last = self.keep(value * factor), self._kind(self.at - 1)

    def _check_juxtaposed(self, last: str, divided: bool) -> None:
        """Refuse a product without a sign that has two readings: `1/2x`, `x 2`, `2\\frac{1}{2}`, `f(x)`, `(2)(3)`."""
        following = self._kind(self.at)
        lone_number = following == "(" and self.tokens[self.at + 2 : self.at + 3] == [")"]
        if divided or following == "number" or lone_number:
            raise UnreadableError(self.next)
        if (last == "number" and self.next in FRACTIONS) or (last == "letter" and following == "("):
            raise UnreadableError(self.next)

    def _kind(self, index: int) -> str:
        token = self.tokens[index]
        if token[:1].isdigit():
            return "number"
        return "letter" if token.isalpha() or token in GREEK else token

    def power(self) -> complex:
        base = self.atom()
        if self.next != "^":
            return base
        self.take()
        if self.next == "{":
            exponent = self.braced()
        elif len(self.next) == 1 and self.next.isalnum():
            exponent = self.atom()
        else:  # x^10 is x^1 times 0 in LaTeX
            raise UnreadableError(self.next)
        if self.next == "^" or abs(exponent) > MAX_EXPONENT:
            raise UnreadableError(self.next)
        if exponent.imag == 0 and exponent.real.is_integer():
            return self.keep(base ** int(exponent.real))
        if base.imag != 0 or base.real <= 0:  # several roots
            raise UnreadableError("^")
        return self.keep(base**exponent)

    def braced(self) -> complex:
        self.take("{")
        value = self.sum()
        self.take("}")
        return value

    def atom(self) -> complex:
        token = self.take()
        if token[0].isdigit():
            return self.keep(complex(float(token)))
        if token.lower() in CONSTANTS:
            return CONSTANTS[token.lower()]
        if token.isalpha() or token in GREEK:
            self.letters = True
            return complex(_at_point(token))
        if token == "(":
            value = self.sum()
            self.take(")")
            return value
        if token in FRACTIONS:
            top = self.braced()
            return self.keep(top / self.braced())
        if token == "\\sqrt":
            return self.root()
        raise UnreadableError(token)

    def root(self) -> complex:
        degree = 2.0
        if self.next == "[":
            self.take()
            degree = float(self.take()) if self.next.isdigit() else 0.0
            self.take("]")
        value = self.braced()
        if degree == 2:
            return cmath.sqrt(value)
        if degree < 1 or value.imag != 0 or value.real < 0:
            raise UnreadableError("\\sqrt")
        return complex(value.real ** (1 / degree))


def _at_point(letter: str) -> float:
    """A variable's value. Capitals are small letters to Math-Verify."""
    index = 26 + GREEK.index(letter) if letter in GREEK else ord(letter.lower()) - ord("a")
    return 0.6180339887 + 0.1414213562 * index
