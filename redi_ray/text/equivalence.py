r"""Math-Verify behind our repairs: are two answers equal? Runs inside a worker process that can be killed.

Differences from calling Math-Verify on two texts, each for a reason:
- bare answers are respelled (`redi_ray.text.normalize.repair`) and read as LaTeX only, so that `1 - \frac{1}{\mathrm{e}`
  is not read as its first number;
- its fallback to comparing what is left of an unreadable answer as strings is off, since that calls different answers
  equal; equal strings are found before, on the whole answer;
- answers with different values (`redi_ray.text.numeric`) are wrong without being read into sympy, which takes longer;
- an answer that cannot be read is `no_answer`, an unreadable gold `gold_unparseable`, and running out of memory or stack
  is an error: Math-Verify says "not equal" to all three.

Nothing parsed is ever turned into a string: printing some of these objects takes for ever.
"""

from __future__ import annotations

import itertools
import logging
import re
from functools import lru_cache
from typing import Any

from redi_ray.config.answers import AnswerSettings
from redi_ray.text.normalize import DECIMAL_COMMA, choice_letter, repair
from redi_ray.text.numeric import certainly_differ

MATH = re.compile(r"(?<!\\)\$|\\\(|\\\[|\\boxed|\\fbox")
PROSE = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{3,}\s|\s[A-Za-z]{3,}")
LATEX = re.compile(r"[\\{}^_]")


@lru_cache(maxsize=1)
def _math_verify() -> tuple[Any, Any]:
    """Math-Verify's parser and grader, the latter with failures of the machine let through.

    The grader catches `Exception` everywhere and answers "not equal". That name is looked up in the module first, so a
    tuple of all other exceptions under the same name lets memory and stack exhaustion reach us. (The parser may go on
    catching all: what it cannot parse is `no_answer`, never `wrong`.)
    """
    from math_verify import grader, parser

    ordinary = (*Exception.__subclasses__(), *RuntimeError.__subclasses__())
    exhausted = (MemoryError, RuntimeError, RecursionError)
    vars(grader)["Exception"] = tuple(kind for kind in ordinary if kind not in exhausted)
    simplify, solve = grader.sympy_symbolic_eq, grader.sympy_solve_and_compare
    vars(grader)["sympy_symbolic_eq"] = lambda a, b: not differs(a, b) and simplify(a, b)
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
    except (TypeError, ValueError, AttributeError, ArithmeticError):
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
    except (TypeError, ValueError, AttributeError, ArithmeticError):
        pass
    return False


def _point(symbols: Any) -> dict[Any, float]:
    return {symbol: 0.6180339887 + 0.1414213562 * i for i, symbol in enumerate(sorted(symbols, key=str))}


def _apart(a: Any, b: Any, point: dict[Any, float]) -> bool:
    """Whether two expressions certainly have different values at `point` (both known to 15 digits)."""
    values = [part for side in (a, b) for part in side.evalf(15, subs=point).as_real_imag()]
    if not all(value.is_Number and value.is_finite for value in values):
        return False
    distance = max(abs(values[0] - values[2]), abs(values[1] - values[3]))
    return bool(distance > 1e-6 and distance > 1e-9 * max(map(abs, values)))


@lru_cache(maxsize=4096)
def _parse(answer: str) -> list[Any]:
    """What Math-Verify makes of an answer: its readings, none if it cannot be read (two for `1,22`: pair or decimal)."""
    import sympy

    parser, _ = _math_verify()
    latex, plain = parser.LatexExtractionConfig(), parser.ExprExtractionConfig()
    options = {"fallback_mode": "no_fallback", "parsing_timeout": None}
    spelled = repair(answer)
    if MATH.search(answer) or PROSE.search(spelled):  # a text with mathematics in it, not a bare answer
        found = parser.parse(answer, extraction_config=[latex, plain], **options)
        if found:
            return found
    if re.fullmatch(r"-?\d{1,15}", spelled):
        return [sympy.Integer(spelled)]
    if choice := choice_letter(spelled):
        spelled = f"\\text{{{choice[0]}}}"
    found = parser.parse(f"\\boxed{{{spelled}}}", extraction_config=[latex], **options)
    if DECIMAL_COMMA.match(spelled) or (not found and not LATEX.search(spelled)):
        found = found + parser.parse(spelled, extraction_config=[plain], **options)
    return found


WARM_UP_ATOMS = (
    *(
        "3",
        "-5",
        "0.5",
        "x",
        "2x",
        "n^2",
        r"\frac{1}{2}",
        r"\sqrt{2}",
        r"3\sqrt[3]{2}",
        r"\pi",
        r"\frac{\sqrt{3}}{2}",
        "x_1",
    ),
    *(
        r"2\pi r",
        r"\sin x",
        r"\cos(2x)",
        "e^{x+1}",
        r"\frac{a+b}{2c}",
        r"\left(\frac{1}{2}\right)^n",
        "n!",
        r"5\cdot 3",
    ),
)
WARM_UP_FORMS = (
    *(
        "@",
        "-@",
        "@+@",
        "@-3@",
        "(@)(@)",
        "@^2",
        "@/@",
        "@, @",
        "(@, @)",
        "(-1, @, @)",
        "[@, @)",
        "(@, @]",
        r"(-\infty, @)",
    ),
    *("x=@", "y = @x + @", "f(x)=@", "x>@", r"-@\le x\le @", r"[@,@]\cup[@,@)", r"\{@, @\}", r"@\pm @", r"\frac{@}{@}"),
    *(
        r"\begin{pmatrix} @ \\ @ \end{pmatrix}",
        r"\begin{pmatrix} @ & @ \\ @ & @ \end{pmatrix}",
        r"\sqrt{@}",
        "@^{\\circ}",
    ),
    *(r"@\text{ cm}", "@\\%", r"x\in[@,@]", "x=@, y=@", "(@,@),(@,@)", r"\log_2 @", r"\binom{@}{2}", "@:@", "|@|"),
)
WARM_UP_PAIRS = (
    *(
        ("x+1", "x+2"),
        (r"\cot x", r"\frac{\cos x}{\sin x}"),
        ("5x-7y=1", "10x-14y=2"),
        ("y=2x", "y=x"),
        ("(1,2)", r"(1,\pi)"),
    ),
    *((r"x\in[0,1]", "[0,1]"), ("1,2", "(1,3)"), (r"(0,9)\cup(9,36)", r"(-9,0)\cup(9,36)"), (r"3\pm\sqrt2", "2")),
    *(
        (r"\frac{\sqrt2}{2}", r"\frac{1}{\sqrt2}"),
        ("(x+1)^2", "x^2+2x+1"),
        ("1<x<2", "(1,2)"),
        (r"\frac12", r"\cos 1 \cos 2"),
    ),
)
"""Common answers (@ is an atom) and comparisons. The grammar's tables and sympy fill up as they work: the first readings
are 3 times slower, and the first `simplify` takes 0.1 s."""


def warm_up(settings: AnswerSettings) -> None:
    """Load sympy, read an answer of each common form and atom, compare some; takes 1-2 s."""
    atoms = itertools.cycle(WARM_UP_ATOMS)
    for form in WARM_UP_FORMS:
        _parse(re.sub("@", lambda _: next(atoms), form))
    for gold, answer in WARM_UP_PAIRS:
        compare(gold, answer, settings)


def compare(gold: str, answer: str, settings: AnswerSettings) -> str:
    """`correct`, `wrong`, `no_answer` or `gold_unparseable` (values of `Verdict`). May hang: call it in a worker."""
    strict = settings.strict_variables
    if certainly_differ(gold, answer, decimals=settings.float_rounding, strict_variables=strict):
        return "wrong"
    _, grader = _math_verify()
    expected = _parse(gold)
    if not expected:
        return "gold_unparseable"
    found = _parse(answer)
    if not found:
        return "no_answer"
    equal = grader.verify(
        expected,
        found,
        float_rounding=settings.float_rounding,
        numeric_precision=settings.numeric_precision,
        strict=strict,
        allow_set_relation_comp=settings.set_relations,
        timeout_seconds=None,
    )
    return "correct" if equal else "wrong"
