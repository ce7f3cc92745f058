"""Votes, answers and ids as data hold them: one strict reader of each, so that nothing is guessed from a value's truth.

A value of no known form is a BadValue and its row or trace is rejected; it never becomes a vote or a reference answer.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import numpy as np

from redi_ray.config.benchmarks import Several
from redi_ray.data.sources.same_answer import certainly_same
from redi_ray.schemas import Verdict

NULLS = ("", "none", "null", "nan", "nat", "<na>")
"""How programs write null where a column went through text."""
NO_VALUE = (*NULLS, "n/a", "na")
"""How people write it as well."""
VOTES: dict[str, Verdict | None] = {
    **dict.fromkeys(("true", "t", "yes", "y", "1", "1.0", "right"), Verdict.CORRECT),
    **dict.fromkeys(("false", "f", "no", "n", "0", "0.0", "incorrect"), Verdict.WRONG),
    **{verdict.value: verdict for verdict in Verdict},
    **dict.fromkeys(NO_VALUE),
}
"""A label's text, in any case of letters, and the vote that it is."""
PLACEHOLDERS = frozenset(
    {
        *NO_VALUE, "#n/a", "nil", "-", "--", "\u2013", "\u2014", "?", "??", "[]", "proof", "proved", "see proof",
        "see solution", "see the solution", "see explanation", "notfound", "not found", "not available", "not provided",
        "not given", "no answer", "answer not found", "unknown", "missing", "tbd", "todo", "n.a", "not applicable",
        "no answer provided", "no answer given", "answer not provided", "none provided", "none given", "proof omitted",
        "#ref!", "#value!", "#name?", "#div/0!", "#num!", "#null!",
    }
)  # fmt: skip
"""Texts that stand where a problem has no reference answer, in any case of letters. What may be a true answer
(`undefined`, `no solution`, `DNE`, `\\text{None}`, `Na`) is not among them."""
AROUND, BRACKETS = " \t\r\n.\"'`$\xa0\u200b\ufeff", "*_()[]\u2026 ."
"""What may stand around a text without changing whether it is an answer."""
DRESS = re.compile(r"\\(?:text|textbf|mathrm|boxed)\s*\{(.*)\}")
MAX_EXPONENT = 1000
MAX_NESTING = 3
HOW_TO_VOTE = "write true or false, 1 or 0, yes or no, correct or wrong; null for no vote"
HOW_TO_ANSWER = "write text, a number, true or false, or a list of one of them; null for no answer"


class BadValue(ValueError):
    """A value of no known form; the message says how it should be written."""


def shown(value: Any) -> str:
    """A value and its type, for messages."""
    return f"{type(value).__name__} {str(value)[:50]!r}"


def read_vote(value: Any) -> Verdict | None:
    """A label as a vote: a boolean, 1 or 0 of any numeric type, or a word of `VOTES`. None is no vote, and so is NaN.

    Raises BadValue for all else: -1 and a score of 0.1 are neither true nor false, and to Python `"False"` is true.
    """
    value = _plain(value)
    if value is None or isinstance(value, str):
        word = (value or "").strip().casefold()
        if word in VOTES:
            return VOTES[word]
    elif isinstance(value, bool | int | float | Decimal):
        if isinstance(value, float | Decimal) and math.isnan(value):
            return None
        if value in (0, 1):
            return Verdict.CORRECT if value else Verdict.WRONG
    raise BadValue(f"neither true nor false; {HOW_TO_VOTE}")


def is_true(value: Any) -> bool:
    """Whether a flag of the data says yes, in any of the forms of a vote; what cannot be read does not."""
    try:
        return read_vote(value) == Verdict.CORRECT
    except BadValue:
        return False


def read_answer(value: Any, several: Several = "refuse", _depth: int = 0) -> str | None:
    r"""A reference answer as text; None where there is none (null, NaN, infinity, blank, `PLACEHOLDERS`).

    Text stays as it is, but for a number as `str(float)` prints it: `1e-05` would be read as e - 5. Numbers become plain
    decimals of the same value (1e-05 -> 0.00001, 27.0 -> 27), booleans `True` and `False`. A list counts as its one
    answer; of several, those equal at sight (0.5, `\frac12`) are one, and `several` says what different ones are.

    Raises BadValue for objects, bytes, dates and whatever else is no answer.
    """
    value = _plain(value)
    if value is None or isinstance(value, str):
        return _answer_text(value or "")
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int | float | Decimal | Fraction):
        return number_text(value)
    if isinstance(value, list | tuple) and _depth < MAX_NESTING:
        return _one_answer([read_answer(item, several, _depth + 1) for item in value], several)
    field = "; if a field of it holds the answer, name it as `column.field`" if isinstance(value, dict) else ""
    raise BadValue(f"no answer: {HOW_TO_ANSWER}{field}")


def _answer_text(text: str) -> str | None:
    bare = text.strip(AROUND)
    word = plain = bare.strip(BRACKETS)
    while dressed := DRESS.fullmatch(word):
        word = dressed[1].strip(BRACKETS)
    word, is_dressed = word.casefold(), word != plain
    if is_dressed and word == "none":  # typeset, so somebody meant it
        return text
    if word in PLACEHOLDERS and plain != "Na":  # sodium
        return None
    if "e" in bare.casefold() and _is_printed_float(bare.casefold()):
        return number_text(float(bare))
    return text


def _is_printed_float(text: str) -> bool:
    try:
        return repr(float(text)) == text
    except ValueError:
        return False


def _one_answer(answers: list[str | None], several: Several) -> str | None:
    found: list[str] = []
    for answer in answers:
        if answer is not None and (several == "join" or not any(certainly_same(answer, other) for other in found)):
            found.append(answer)
    if len(found) > 1 and several == "refuse":
        raise BadValue(
            f"a list of {len(found)} different answers, which may be parts of one or spellings of one; write one text, "
            f"such as {', '.join(found)!r}, or only the one that counts"
        )
    return ", ".join(found) if several == "join" and found else next(iter(found), None)


LARGEST = 3.4e38
"""Number that float32 holds."""


def read_number(value: Any) -> float | None:
    """A reward or a score: a number of any type, true or false as 1 or 0, or its text; None for null, NaN and their texts.

    Raises BadValue for infinities, for what float32 cannot hold, as which rewards are kept, and all else.
    """
    value = _plain(value)
    if value is None or (isinstance(value, str) and value.strip().casefold() in NULLS):
        return None
    try:
        number = float(value) if isinstance(value, bool | int | float | Decimal | str) else math.inf
    except (ValueError, OverflowError):
        number = math.inf
    if abs(number) > LARGEST:
        raise BadValue("no number" if math.isinf(number) else "beyond what float32 holds")
    return None if math.isnan(number) else number


def read_id(value: Any) -> str | None:
    """Text of an id or a name: a string or number (142.0 -> "142"); None for null, NaN, their texts (`NULLS`), and everything
    else."""
    value = _plain(value)
    if isinstance(value, str | UUID):
        return str(value) if str(value).strip().casefold() not in NULLS else None
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return number_text(value)
    return None


def number_text(value: int | float | Decimal | Fraction) -> str | None:
    """A number in plain digits, without an exponent or a zero that says nothing; None for NaN and infinities."""
    if isinstance(value, Fraction):
        return str(value)
    if isinstance(value, int):
        try:
            return str(value)
        except ValueError as error:  # thousands of digits
            raise BadValue(str(error)) from error
    exact = Decimal(repr(value)) if isinstance(value, float) else value
    if not exact.is_finite():
        return None
    if abs(exact.adjusted()) > MAX_EXPONENT:
        raise BadValue(f"a number with more than {MAX_EXPONENT} digits; write it as a power")
    digits = format(exact, "f")
    digits = digits.rstrip("0").rstrip(".") if "." in digits else digits
    return digits.removeprefix("-") if digits in ("-0", "-") else digits


def _plain(value: Any) -> Any:
    """Without numpy. A float of 32 bits keeps the digits it is printed with: 0.1 is not 0.10000000149011612."""
    if isinstance(value, np.floating):
        return Decimal(str(value))
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value
