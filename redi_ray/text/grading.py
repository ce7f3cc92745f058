r"""Math-Verify's parser and grader as they are used here: faster, exact, and honest about failures of the machine.

What is changed, each for a reason:
- the LaTeX grammar is tried with fast prediction first;
- expressions with different values at one point are unequal without sympy's `simplify`, which takes long;
- small numbers are compared by significant digits, and exact ones exactly: Math-Verify rounds every difference below 1e-15
  away, so that 10^-18 is 1.6 * 10^-19;
- expressions with the same value at several points, to hundreds of digits, are equal: `simplify` knows no way from
  `\tanh x` to exponentials;
- the letter i is the imaginary unit.

Nothing parsed is ever turned into a string: printing some of these objects takes for ever.
"""

from __future__ import annotations

import logging
from fractions import Fraction
from functools import lru_cache
from typing import Any

from redi_ray.text.exact import close

DIGITS = 300
"""Working precision of a comparison at a point."""
UNCLEAR = (TypeError, ValueError, AttributeError, ArithmeticError, NotImplementedError, RecursionError)
"""What sympy raises where an expression has no number as its value."""


@lru_cache(maxsize=1)
def math_verify() -> tuple[Any, Any]:
    """Math-Verify's parser and grader, the latter with failures of the machine let through.

    The grader catches `Exception` everywhere and answers "not equal". That name is looked up in the module first, so a
    tuple of all other exceptions under the same name lets memory and stack exhaustion reach us. (The parser may go on
    catching all: what it cannot parse is `no_answer`, never `wrong`.)
    """
    from math_verify import grader, parser

    ordinary = (*Exception.__subclasses__(), *RuntimeError.__subclasses__())
    exhausted = (MemoryError, RuntimeError, RecursionError)
    vars(grader)["Exception"] = tuple(kind for kind in ordinary if kind not in exhausted)
    numeric, simplify, solve = grader.sympy_numeric_eq, grader.sympy_symbolic_eq, grader.sympy_solve_and_compare
    vars(grader)["sympy_numeric_eq"] = lambda a, b, places, digits: (
        numeric(_one_number(a), _one_number(b), places, digits) and not apart_in_scale(a, b, places)
    )
    vars(grader)["sympy_symbolic_eq"] = lambda a, b: not differs(a, b) and (agree(a, b) or simplify(a, b))
    vars(grader)["sympy_solve_and_compare"] = lambda a, b, *options: (
        not equations_differ(a, b) and solve(a, b, *options)
    )
    _parse_in_two_stages()
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    return parser, grader


def _parse_in_two_stages() -> None:
    """Let the LaTeX grammar try ANTLR's fast prediction (SLL) first and the full one (LL) only after a syntax error.

    ANTLR's documentation promises the same tree or a syntax error. On 1,866 real and test answers it gave the same
    expression for all but one chain of equalities, 3.4 times faster; chains go straight to the full prediction.
    """
    from antlr4.atn.PredictionMode import PredictionMode
    from latex2sympy2_extended.antlr_parser import PSParser

    full = PSParser.math

    def math(self: Any) -> Any:
        if self._input.tokenSource.inputStream.strdata.count("=") > 2:
            return full(self)
        self._interp.predictionMode = PredictionMode.SLL
        try:
            return full(self)
        except Exception:  # the listener raises plain Exceptions; whatever is wrong, the second try says it again
            self.reset()
            self._interp.predictionMode = PredictionMode.LL
            return full(self)

    PSParser.math = math


def differs(a: Any, b: Any) -> bool:
    """True if two expressions have different values at one point, which proves them unequal; False if that is unclear."""
    try:
        return _apart(a, b, _point(a.free_symbols | b.free_symbols))
    except UNCLEAR:
        return False


def equations_differ(a: Any, b: Any) -> bool:
    """True if a solution of equation `a`, which must be linear in one of its symbols, does not solve `b`."""
    try:
        if not (a.is_Equality and b.is_Equality):
            return False
        left = a.lhs - a.rhs
        for symbol in sorted(left.free_symbols, key=str):
            slope = left.diff(symbol)
            if symbol in slope.free_symbols:
                continue
            point = _point((a.free_symbols | b.free_symbols) - {symbol})
            rest, slope = left.subs(symbol, 0).evalf(15, subs=point), slope.evalf(15, subs=point)
            if not (rest.is_Float or rest.is_Integer) or not slope.is_number or abs(slope) < 1e-3:
                return False
            return _apart(b.lhs, b.rhs, {**point, symbol: -rest / slope})
    except UNCLEAR:
        pass
    return False


def _point(symbols: Any) -> dict[Any, Any]:
    import sympy

    ordered = sorted(symbols, key=str)
    return {s: sympy.I if s.name == "i" else 0.6180339887 + 0.1414213562 * k for k, s in enumerate(ordered)}


def agree(a: Any, b: Any) -> bool | None:
    """Whether two expressions have the same value at several points; None where that is unclear.

    The values are known to hundreds of digits, but for decimals, so that what agrees at two points is the same function.
    Real functions are compared where they are real.
    """
    import sympy

    try:
        slow = (sympy.Sum, sympy.Product, sympy.Integral, sympy.Derivative, sympy.Limit)
        if a.has(*slow) or b.has(*slow):
            return None
        inexact = a.has(sympy.Float) or b.has(sympy.Float)
        symbols = sorted(a.free_symbols | b.free_symbols, key=lambda symbol: symbol.name)
        if inexact and not symbols:
            return None
        if not symbols:
            return _vanishes(a, b, {})
        is_real = not any(side.has(sympy.I) for side in (a, b)) and "i" not in {symbol.name for symbol in symbols}
        same = 0
        for start in map(sympy.Rational, ("13/21", "-29/17", "-5/13", "37/11", "3/17")):
            point = {s: sympy.I if s.name == "i" else start + sympy.Rational(k, 7) for k, s in enumerate(symbols)}
            vanishes = _vanishes(a, b, point, is_real, 12 if inexact else DIGITS - 50)
            if vanishes is False:
                return False
            same += vanishes is True
        return True if same >= 2 else None
    except UNCLEAR:
        return None


def _vanishes(a: Any, b: Any, point: dict[Any, Any], is_real: bool = False, digits: int = DIGITS - 50) -> bool | None:
    """Whether a - b is zero at `point` to `digits` digits; None where both should be real and are not.

    ValueError where a value is no number.
    """
    distance = (a - b).evalf(15, subs=point, maxn=DIGITS)
    if distance == 0:
        return True
    values = [side.evalf(15, subs=point).as_real_imag() for side in (a, b)]
    parts = [*distance.as_real_imag(), *values[0], *values[1]]
    if not all(part.is_Number and part.is_finite for part in parts):
        raise ValueError("no number")
    size = max(map(abs, parts[2:]))
    if max(abs(parts[0]), abs(parts[1])) <= size * Fraction(1, 10**digits):
        return True
    return None if is_real and all(abs(imaginary) > 1e-9 for _, imaginary in values) else False


def _one_number(a: Any) -> Any:
    """`2 * 10^-3` is a product to Math-Verify, which compares only single decimals as such."""
    import sympy

    if isinstance(a, sympy.Expr) and a.has(sympy.Float) and not a.free_symbols and not a.has(sympy.UnevaluatedExpr):
        value = a.doit()
        return value if value.is_Number else a
    return a


def apart_in_scale(a: Any, b: Any, places: int) -> bool:
    """Whether two expressions that Math-Verify finds numerically equal differ after all: exactly, or in their first digits."""
    import sympy

    try:
        if not (a.has(sympy.Float) or b.has(sympy.Float)):
            return a - b != 0 and agree(a, b) is False
        a, b = _one_number(a), _one_number(b)
        values = [side.doit().evalf(20) for side in (a, b)]
        if all(value.is_Float or value.is_Rational for value in values):
            one, other = (Fraction(int(r.p), int(r.q)) for r in map(sympy.Rational, values))
            return not close(one, other, places)
        point = _point(a.free_symbols | b.free_symbols)
        parts = [part for side in (a, b) for part in side.evalf(15, subs=point).as_real_imag()]
        return bool(max(abs(parts[0] - parts[2]), abs(parts[1] - parts[3])) > 1e-9 * max(map(abs, parts)))
    except UNCLEAR:
        return False


def _apart(a: Any, b: Any, point: dict[Any, float]) -> bool:
    """Whether two expressions certainly have different values at `point` (both known to 15 digits)."""
    values = [part for side in (a, b) for part in side.evalf(15, subs=point).as_real_imag()]
    if not all(value.is_Number and value.is_finite for value in values):
        return False
    distance = max(abs(values[0] - values[2]), abs(values[1] - values[3]))
    return bool(distance > 1e-6 and distance > 1e-9 * max(map(abs, values)))
