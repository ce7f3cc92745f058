r"""Spelling of answers: one canonical string for comparison, and repairs of LaTeX that Math-Verify misreads.

Math-Verify 0.9 strips units with a pattern that eats everything behind the first `\text{` if the answer ends in a
brace: `\lambda_{\text{red}}/\sqrt{2}` and `\lambda_{\text{red}}\sqrt{3-2\sqrt2}` both become `\lambda_{`, and are called
equal. It also reads `15,000 \, \text{kcal}` as the set {0, 15}, and cannot read `\frac2\pi-1`. `repair` respells such
answers; it never changes what they mean.
"""

from __future__ import annotations

import re
from fractions import Fraction

UNICODE = str.maketrans(
    {
        "\u2212": "-",  # minus sign
        "\u2013": "-",  # en dash
        "\u00d7": "\\times ",
        "\u00b7": "\\cdot ",
        "\u03c0": "\\pi ",
        "\u221e": "\\infty ",
        "\u00a0": " ",
    }
)
TEXT = re.compile(r"\\(?:text|mathrm|textrm|mathbf|textbf|mathit|textit|mbox|textnormal|operatorname)\s*\{([^{}]*)\}")
SUBSCRIPT_TEXT = re.compile(
    r"_\{\s*\\(?:text|mathrm|textrm|mbox)\s*\{\s*([A-Za-z0-9]+)\s*\}\s*\}|_\\(?:text|mathrm)\{([A-Za-z0-9]+)\}"
)
EULER = re.compile(r"\\(?:mathrm|text|operatorname)\{([eid])\}")
ORDINAL = re.compile(
    r"(?<=\d)\s*\^?\s*\{?\s*\\(?:mathrm|text|textrm)\{\s*(?:st|nd|rd|th)\s*\}\s*\}?|(?<=\d)(?:st|nd|rd|th)\b"
)
STYLE = re.compile(r"\\(?:displaystyle|textstyle|left|right|[bB]igg?[lr]?|limits)(?![a-zA-Z])")
SINGLE_SCRIPT = re.compile(r"([_^])\{(\w)\}")
SPACE = re.compile(r"\\[,;:! ]|\\q?quad(?![a-zA-Z])|~|\s+")
FRACTION = re.compile(r"\\[dtc]?frac\s*(\d|\\[a-zA-Z]+|[a-zA-Z]|\{[^{}]*\})\s*(\d|\\[a-zA-Z]+|[a-zA-Z]|\{)")
ROOT = re.compile(r"\\sqrt\s*(\d|[a-zA-Z])")
THOUSANDS = re.compile(r"(?<![\d.,])(\d{1,3})((?:(?:\{,\}|,\\!)\s*\d{3})+)(?!\d)")
PLAIN_THOUSANDS = re.compile(r"^([-+]?[1-9]\d{0,2}(?:[, ]\d{3})+)(?![\d,])(?=\.\d|\D*$)")
TAIL_UNIT = re.compile(
    r"^([-+]?\d[\d.]*|\\frac\{\d+\}\{\d+\})\s*\\(?:text|mathrm|textrm|mbox|textnormal)\s*"
    r"\{(?!\s*(?:and|or|thousand|million|billion|dozen|hundred|percent)\b)[^{}]*\}\s*(?:\^\{?\d\}?)?\.?$"
)
LISTED = re.compile(
    r",?\s*\\(?:text|mathrm|textrm|mbox|textnormal)\s*\{\s*(?:and|or)\s*\}\s*|(?<=[\d)\]}]),?\s+(?:and|or)\s+(?=[-+\d(\[\\])"
)
RELATION = re.compile(r"[<>]|\\(?:leq?|geq?|lt|gt|neq?|in|leqslant|geqslant)(?![a-zA-Z])")
DECIMAL_COMMA = re.compile(r"^-?(?:\d+,(?:\d{1,2}|\d{4,})|0,\d+|\d{4,},\d+)$")
INTEGER = re.compile(r"^[-+]?\d+$")
RATIONAL = re.compile(r"^([-+]?)(?:\\frac\{(-?\d{1,18})\}\{(\d{1,18})\}|(\d{1,18})/(\d{1,18})|(\d{1,18}))$")
CHOICE = re.compile(r"^\(?([A-J])\)?[.:]?$")
LABELLED_CHOICE = re.compile(r"^\(([A-J])\)[.:]?\s*(.+)$|^([A-J])[).:]\s*(.+)$")


def strip_delimiters(text: str) -> str:
    r"""Without white space and one pair of `$`, `$$`, `\(` or `\[` around all of it."""
    text = text.strip()
    for opening, closing in (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
        inner = text[len(opening) : -len(closing)]
        if (
            len(text) > 2 * len(opening)
            and text.startswith(opening)
            and text.endswith(closing)
            and opening not in inner
        ):
            return inner.strip()
    return text


def brace_fractions(text: str) -> str:
    r"""`\frac2\pi` -> `\frac{2}{\pi}`, `\dfrac12` -> `\frac{1}{2}`, `\sqrt3` -> `\sqrt{3}`."""

    def braced(match: re.Match[str]) -> str:
        top, bottom = match.groups()
        top = top if top.startswith("{") else f"{{{top}}}"
        return f"\\frac{top}" + (bottom if bottom == "{" else f"{{{bottom}}}")

    text = FRACTION.sub(braced, text) if "frac" in text else text
    return ROOT.sub(r"\\sqrt{\1}", text) if "\\sqrt" in text else text


def flatten_vertical(text: str) -> str:
    r"""Undo an answer that was printed one token per row: `\begin{matrix} \frac{ \\ 4 \\ }{ \\ 3 \\ } \end{matrix}`.

    Told from a true column vector by rows that are no expressions: unbalanced braces, or an operator alone.
    """
    match = re.fullmatch(r"\s*\\begin\{matrix\}(.*)\\end\{matrix\}\s*", text, re.DOTALL)
    if match is None or "&" in match.group(1):
        return text
    rows = [row.strip() for row in re.split(r"\\\\", match.group(1))]
    broken = any(row.count("{") != row.count("}") or row in ("+", "-", "=", "/", "\\times", "\\cdot") for row in rows)
    return " ".join(row for row in rows if row) if broken else text


def repair(answer: str) -> str:
    """`answer` respelled for Math-Verify, with the same meaning (see the module's first lines)."""
    text = strip_delimiters(answer)
    if not text.isascii():
        text = text.translate(UNICODE)
    if "\\begin{matrix}" in text:
        text = flatten_vertical(text)
    if not text.isdigit():
        text = text.replace("\\$", "")
        text = THOUSANDS.sub(lambda match: match.group(1) + re.sub(r"\D", "", match.group(2)), text)
        text = re.sub(r"\\[,;:!]", " ", text)
        text = PLAIN_THOUSANDS.sub(lambda match: re.sub("[, ]", "", match.group(1)), text)
        text = SUBSCRIPT_TEXT.sub(lambda match: f"_{{{match.group(1) or match.group(2)}}}", text)
        text = ORDINAL.sub("", EULER.sub(r" \1 ", text))
        if LISTED.search(text) and not RELATION.search(text):  # "and" between inequalities is no list
            text = LISTED.sub(", ", text)
        text = brace_fractions(text)
    return text.strip()


def canonical(answer: str) -> str:
    """One spelling for answers that differ only in how they are typeset: equal strings mean equal answers.

    White space goes, except between two digits; units behind a single number go; words of four letters and more lose
    their case. Percent signs, brackets, order and everything else that may carry meaning stays.
    """
    text = repair(answer)
    if text.isalnum():
        return text.casefold() if len(text) >= 4 and text.isalpha() else text
    text = text.replace("\\%", "%").removesuffix(".").rstrip()
    text = SINGLE_SCRIPT.sub(r"\1\2", STYLE.sub("", text))
    unit = TAIL_UNIT.match(text)
    text = unit.group(1) if unit else TEXT.sub(r"\1", text)
    text = SPACE.sub(" ", text).strip()
    text = re.sub(r"(?<!\d) | (?!\d)", "", text)
    if text.startswith((".", "-.")):
        text = text.replace(".", "0.", 1)
    return text.casefold() if len(text) >= 4 and text.isalpha() else text


def exact_number(text: str) -> Fraction | None:
    r"""The value of a canonical answer that is an integer, `a/b` or `\frac{a}{b}`; None for all else, decimals too."""
    match = RATIONAL.match(text)
    if match is None:
        return None
    sign, top, bottom, numerator, denominator, integer = match.groups()
    divisor = int(bottom or denominator or 1)
    if divisor == 0:
        return None
    value = Fraction(int(top or numerator or integer), divisor)
    return -value if sign == "-" else value


def choice_letter(answer: str) -> tuple[str, str] | None:
    r"""Letter and wording of a multiple-choice answer: `\text{(C) Plane}` -> ("C", "Plane"), `(B)` -> ("B", "")."""
    text = SPACE.sub(" ", TEXT.sub(r"\1", strip_delimiters(answer))).strip()
    if match := CHOICE.match(text):
        return match.group(1), ""
    if match := LABELLED_CHOICE.match(text):
        return match.group(1) or match.group(3), (match.group(2) or match.group(4)).strip()
    return None
