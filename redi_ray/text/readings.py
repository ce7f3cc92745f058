r"""What Math-Verify makes of an answer: its readings as sympy expressions, after our respelling.

Bare answers are read as LaTeX only, so that `1 - \frac{1}{\mathrm{e}` is not read as its first number; a text with
mathematics in it is searched. Letters behind a number are a unit or a factor and give two readings.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from redi_ray.text.grading import math_verify
from redi_ray.text.normalize import DECIMAL_COMMA, PLAIN_UNIT, TEXT, UNITS, choice_letter, repair, strip_delimiters
from redi_ray.text.statements import letters, top_level
from redi_ray.text.symbols import from_unicode

MATH = re.compile(r"(?<!\\)\$|\\\(|\\\[|\\boxed|\\fbox")
PROSE = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{3,}\s|\s[A-Za-z]{3,}")
LATEX = re.compile(r"[\\{}^_]")
LETTERS_LAST = re.compile(r"(?<=[\d}\s])\s*([a-zA-Z]+)\s*$")
PLAIN_LOG, LOG, LN = re.compile(r"(?<![\\a-zA-Z])log\s*\("), "\\log(", "\\ln("
MAX_STATEMENT = 300
SENTENCE = re.compile(r"[.!?:]\s+[A-Z][a-z]|^[A-Z][a-z]+\s+[a-z]+\s|\n")
NAMED = re.compile(r"^[^=]*[=\u2248]")
SUM = re.compile(r"[-+](?![^{]*\})")
BASED = re.compile(r"(?<![\w}.,])(\d+)_(?:\{(\d{1,2})\}|(\d))(?!\d)")
SEMICOLON = re.compile(r"(\$|\\\))\s*;\s*(\$|\\\()")
"""Between two formulas of a text."""


@lru_cache(maxsize=4096)
def read(answer: str) -> list[Any]:
    """What Math-Verify makes of an answer: its readings, none if it cannot be read (two for `1,22`: pair or decimal)."""
    import sympy

    parser, _ = math_verify()
    latex, plain = parser.LatexExtractionConfig(), parser.ExprExtractionConfig()
    options = {"fallback_mode": "no_fallback", "parsing_timeout": None}
    spelled = BASED.sub(_in_tens, UNITS.sub("", repair(answer)))
    if _holds_mathematics(answer, spelled) or PROSE.search(spelled):
        found = parser.parse(
            SEMICOLON.sub(r"\1, \2", from_unicode(answer)), extraction_config=[latex, plain], **options
        )
        if found:
            return found
    if re.fullmatch(r"-?\d{1,15}", spelled):
        return [sympy.Integer(spelled)]
    if choice := choice_letter(spelled):
        spelled = f"\\text{{{choice[0]}}}"
    found = []
    for ending in _endings(spelled):
        found = found + parser.parse(f"\\boxed{{{spelled}{ending}}}", extraction_config=[latex], **options)
    if PLAIN_LOG.search(answer):  # the natural logarithm to programs
        found = found + parser.parse(f"\\boxed{{{spelled.replace(LOG, LN)}}}", extraction_config=[latex], **options)
    if unit := PLAIN_UNIT.match(spelled):
        found = found + parser.parse(f"\\boxed{{{unit[1]}}}", extraction_config=[latex], **options)
    if not found and "\\pm" in spelled:  # inside a fraction
        both = ",".join(item.replace("\\pm", sign) for item in top_level(spelled) for sign in _signs(item))
        found = parser.parse(f"\\boxed{{{both}}}", extraction_config=[latex], **options)
    if DECIMAL_COMMA.match(spelled) or (not found and not LATEX.search(spelled)):
        found = found + parser.parse(spelled, extraction_config=[plain], **options)
    return found


def _signs(item: str) -> str:
    return "+-" if "\\pm" in item else "+"


def _holds_mathematics(answer: str, spelled: str) -> bool:
    """Whether an answer is a text with mathematics in it, for Math-Verify to search, and no list of formulas."""
    return bool(MATH.search(spelled) or (MATH.search(answer) and strip_delimiters(answer) != answer.strip()))


def is_short(answer: str, spelled: str) -> bool:
    """Whether an answer is one statement, and not a text."""
    return len(spelled) <= MAX_STATEMENT and not _holds_mathematics(answer, spelled) and not SENTENCE.search(spelled)


def _endings(spelled: str) -> tuple[str, ...]:
    """What to read an answer with at its end: a blank there keeps Math-Verify from dropping letters and text as a unit.

    Behind a number they are a unit or a factor, so both are readings; elsewhere they are part of the answer.
    """
    texts = [match.span() for match in TEXT.finditer(spelled)]
    if len(texts) > 1 or (texts and texts[0][1] < len(spelled.rstrip()) and texts[0][0] > 0 and spelled.endswith("}")):
        return ("\\,",)
    match = None if texts else LETTERS_LAST.search(spelled)
    if match is None:
        return ("",)
    number = NAMED.sub("", spelled[: match.start(1)]).strip()
    return ("\\,",) if letters(number) - {"e", "i"} or SUM.search(number[1:]) else ("", "\\,")


def _in_tens(match: re.Match[str]) -> str:
    """A number in a base by its value: to Math-Verify, a number's index is nothing."""
    base = int(match[2] or match[3])
    return str(int(match[1], base)) if 2 <= base <= 10 and all(int(digit) < base for digit in match[1]) else match[0]
