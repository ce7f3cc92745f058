r"""Math-Verify behind our repairs: are two answers equal? Runs inside a worker process that can be killed.

Differences from calling Math-Verify on two texts, each for a reason:
- bare answers are respelled (`redi_ray.text.normalize.repair`) and read as LaTeX only, so that `1 - \frac{1}{\mathrm{e}`
  is not read as its first number;
- its fallback to comparing what is left of an unreadable answer as strings is off, since that calls different answers
  equal; equal strings are found before, on the whole answer;
- answers with different values (`redi_ray.text.numeric`) are wrong without being read into sympy, which takes longer;
- single numbers (`redi_ray.text.exact`) and quantities whose words count (`redi_ray.text.quantities`) never reach it;
- a condition behind an answer and names before its parts (`redi_ray.text.statements`) are compared apart from it;
- its grader is mended (`redi_ray.text.grading`);
- an answer that cannot be read is `no_answer`, an unreadable gold `gold_unparseable`, and running out of memory or stack
  is an error: Math-Verify says "not equal" to all three.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

from redi_ray.config.answers import AnswerSettings
from redi_ray.text.exact import numbers_equal
from redi_ray.text.grading import math_verify
from redi_ray.text.normalize import (
    RELATION,
    canonical,
    repair,
)
from redi_ray.text.numeric import certainly_differ
from redi_ray.text.quantities import angles_equal, congruences_equal, mixed_equal, opposed, times_equal
from redi_ray.text.readings import PROSE, is_short, read
from redi_ray.text.statements import (
    as_tuples,
    condition_key,
    relation_of,
    split_cases,
    split_condition,
)

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
        read(re.sub("@", lambda _: next(atoms), form))
    for gold, answer in WARM_UP_PAIRS:
        compare(gold, answer, settings)


def compare(gold: str, answer: str, settings: AnswerSettings) -> str:
    """`correct`, `wrong`, `no_answer` or `gold_unparseable` (values of `Verdict`). May hang: call it in a worker."""
    if cases := _cases_differ(gold, answer):
        return cases
    (one, given), (other, told) = _statement(gold), _statement(answer)
    verdict = _compare_values(one, other, settings)
    if verdict != "correct" or not (given and told):
        return verdict
    return _compare_conditions(given, told, settings)


def _cases_differ(gold: str, answer: str) -> str:
    """`wrong` where one side has several cases and the other not all of them, `no_answer` where they cannot be told apart.

    Empty where neither has cases, or one is more than an answer. Equal spellings were found before.
    """
    spelled = repair(gold), repair(answer)
    if not all(map(is_short, (gold, answer), spelled)):
        return ""
    one, other = map(split_cases, spelled)
    if not one and not other:
        return ""
    if not one or not other:
        return "wrong"
    keys = [sorted((canonical(value), condition_key(condition)) for value, condition in side) for side in (one, other)]
    if keys[0] == keys[1]:
        return "correct"
    return "wrong" if len(one) == len(other) and all(condition for _, condition in (*one, *other)) else "no_answer"


def _statement(answer: str) -> tuple[str, str]:
    """An answer without its condition, and that. A text with mathematics in it stays what it is."""
    spelled = repair(answer)
    if not is_short(answer, spelled):
        return answer, ""
    core, condition = split_condition(spelled)
    return (core, condition) if condition and not PROSE.search(core) else (answer, "")


def _compare_conditions(given: str, told: str, settings: AnswerSettings) -> str:
    """The verdict on two conditions: without a formula in both, other words make another condition."""
    if condition_key(given) == condition_key(told):
        return "correct"
    one, other = relation_of(given), relation_of(told)
    if not (RELATION.search(one) and RELATION.search(other)) or opposed(given, told):
        return "wrong"
    verdict = _compare_values(one, other, settings)
    return verdict if verdict in ("correct", "wrong") else "no_answer"


def _compare_values(gold: str, answer: str, settings: AnswerSettings) -> str:
    strict, places = settings.strict_variables, settings.float_rounding
    if (equal := _decide(gold, answer, places)) is not None:
        return "correct" if equal else "wrong"
    if certainly_differ(gold, answer, decimals=places, strict_variables=strict):
        return "wrong"
    if tuples := as_tuples(repair(answer), repair(gold)):
        by_name, *as_written = (_ask(gold, spelling, settings) for spelling in tuples)
        return "no_answer" if by_name != "correct" and "correct" in as_written else by_name
    if tuples := as_tuples(repair(gold), repair(answer)):
        return _ask(tuples[0], answer, settings)
    return _ask(gold, answer, settings)


def _decide(gold: str, answer: str, places: int) -> bool | None:
    """Whether two answers are equal, where that is known without Math-Verify."""
    if (equal := numbers_equal(gold, answer, places)) is not None:
        return equal
    for equality in (mixed_equal, times_equal, congruences_equal, angles_equal):
        if (equal := equality(gold, answer)) is not None:
            return equal
    return False if opposed(gold, answer) else None


def _ask(gold: str, answer: str, settings: AnswerSettings) -> str:
    """Math-Verify's verdict."""
    _, grader = math_verify()
    expected = read(gold)
    if not expected:
        return "gold_unparseable"
    found = read(answer)
    if not found:
        return "no_answer"
    equal = grader.verify(
        *_same_symbols(expected, found),
        float_rounding=settings.float_rounding,
        numeric_precision=settings.numeric_precision,
        strict=settings.strict_variables,
        allow_set_relation_comp=settings.set_relations,
        timeout_seconds=None,
    )
    return "correct" if equal else "wrong"


def _same_symbols(expected: list[Any], found: list[Any]) -> tuple[list[Any], list[Any]]:
    """Readings in which a letter is one symbol: Math-Verify has real ones, and others where it sees an i."""
    free = {symbol for reading in (*expected, *found) for symbol in getattr(reading, "free_symbols", ())}
    real = {symbol.name: symbol for symbol in free if symbol.is_real}
    other = {symbol: real[symbol.name] for symbol in free if not symbol.is_real and symbol.name in real}
    if not other:
        return expected, found
    try:
        return [reading.xreplace(other) for reading in expected], [reading.xreplace(other) for reading in found]
    except (TypeError, ValueError, AttributeError):
        return expected, found
