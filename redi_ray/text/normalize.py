r"""Spelling of answers: one canonical string for comparison, and repairs of LaTeX that Math-Verify misreads.

Math-Verify 0.9 strips units with a pattern that eats everything behind the first `\text{` if the answer ends in a
brace: `\lambda_{\text{red}}/\sqrt{2}` and `\lambda_{\text{red}}\sqrt{3-2\sqrt2}` both become `\lambda_{`, and are called
equal. It also reads `15,000 \, \text{kcal}` as the set {0, 15}, and cannot read `\frac2\pi-1`. `repair` respells such
answers; it never changes what they mean.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise

from redi_ray.text.boxes import close_brace
from redi_ray.text.plain import from_plain
from redi_ray.text.symbols import from_unicode

TEXT = re.compile(r"\\(?:text|mathrm|textrm|mathbf|textbf|mathit|textit|mbox|textnormal|operatorname)\s*\{([^{}]*)\}")
SUBSCRIPT_TEXT = re.compile(
    r"_\{\s*\\(?:text|mathrm|textrm|mbox)\s*\{\s*([A-Za-z0-9]+)\s*\}\s*\}|_\\(?:text|mathrm)\{([A-Za-z0-9]+)\}"
)
EULER = re.compile(r"\\(?:mathrm|text|operatorname)\{([eid])\}")
LONE_LETTER = re.compile(r"\{ ([eid]) \}")
ORDINAL = re.compile(
    r"(?<=\d)\s*\^?\s*\{?\s*\\(?:mathrm|text|textrm)\{\s*(?:st|nd|rd|th)\s*\}\s*\}?|(?<=\d)(?:st|nd|rd|th)\b"
)
STYLE = re.compile(r"\\(?:displaystyle|textstyle|left|right|[bB]igg?[lr]?|limits)(?![a-zA-Z])")
EMPHASIS = ("\\underline{", "\\boldsymbol{", "\\bm{", "\\mathbf{")
SINGLE_SCRIPT = re.compile(r"([_^])\{(\w)\}")
THIN_SPACE = re.compile(r"\\[,;:!]")
SPACE = re.compile(r"\\[,;:! ]|\\q?quad(?![a-zA-Z])|~|\s+")
FRACTION = re.compile(r"\\[dtc]?(frac|binom)\s*(\d|\\[a-zA-Z]+|[a-zA-Z]|\{[^{}]*\})\s*(\d|\\[a-zA-Z]+|[a-zA-Z]|\{)")
ROOT = re.compile(r"\\sqrt\s*(\d|[a-zA-Z])")
THOUSANDS = re.compile(r"(?<![\d.,])(\d{1,3})((?:(?:\{,\}|,\\!)\s*\d{3})+)(?!\d)")
PLAIN_THOUSANDS = re.compile(r"^([-+]?[1-9]\d{0,2}(?:[, ]\d{3})+)(?![\d,])(?=\.\d|\D*$)")
COUNTED = (
    r"and|or|thousand|million|billion|trillion|dozen|hundred|percent|[ap]\.?\s?m|noon|midnight|(?:north|south|east|west)\w*"
    r"|left|right|up|down|upwards?|downwards?|(?:counter-?|anti-?)?clockwise|bce?|ad|ce|B\.C|A\.D|increas\w*|decreas\w*|profit"
    r"|gain\w*|loss|lost|rise|rose|fall|fell|drop\w*|more|greater|less|fewer|least|most|above|below|before|after|even|odd"
    r"|positive|negative|non\w*|maximum|minimum|faster|slower|older|younger|taller|shorter|forward\w*|backward\w*|inside"
    r"|outside|wins?|won|loses?|earn\w*|heads?|tails?|if|for|when\w*|where|with|provided|given|unless|otherwise|base|mod|modulo|over|under"
)
"""Words behind a number that are no unit: they are part of the answer."""
TEXT_COMMAND = r"\\(?:text|mathrm|textrm|mbox|textnormal)"
UNIT = (
    TEXT_COMMAND
    + rf"\s*\{{(?![^{{}}]*(?:(?<![a-zA-Z^\d])\d|(?<![a-zA-Z])(?:{COUNTED})(?![a-zA-Z])))[^{{}}]*\}}\s*(?:\^\s*(?:\{{-?\d\}}|\d))?"
)
UNIT = rf"(?:\\?\s|~)*{UNIT}(?:\s*(?:/|\\cdot)?\s*{UNIT})*"
PLAIN_UNIT = re.compile(
    r"^([-+]?\d[\d.]*|\\frac\{\d+\}\{\d+\})\s*(?:(?:\\mu\s*|[mckd])?[mgLls]|in|ft|yd|mi|kg)(?:\^\{?[23]\}?)?"
    r"(?:\s*/\s*(?:(?:[mck]?m|s|h|hr|min|kg|L|g)(?:\^\{?[23]\}?)?))?$"
)
"""A number and letters that are a unit, `10 m^2` or `15 km/h`; they may be factors as well."""
CELSIUS = re.compile(r"(\^\s*(?:\\circ|\{\s*\\circ\s*\}))\s*[CF]\s*$")
NUMBER_IN_TEXT = re.compile(r"^\\text\{\s*([-+]?\d[\d.,/]*)\s+([a-z]+)\s*\}$")
DERIVATIVE = re.compile(r"\\frac\s*\{\s*d\s*([a-zA-Z])\s*\}\s*\{\s*d\s*([a-zA-Z])\s*\}")
TAIL_UNIT = re.compile(
    r"^([-+]?\d[\d.]*(?:\s*\\(?:times|cdot)\s*10\s*\^\s*\{[-+]?\d+\})?|[-+]?\\frac\{\d+\}\{\d+\})" + UNIT + r"\.?$",
    re.IGNORECASE,
)
UNITS = re.compile(rf"(?<=[\d)}}]){UNIT}(?=\s*(?:[,;)\]]|\\\}}|\.?$))", re.IGNORECASE)
"""Units behind numbers, in a list too."""
SCALE = re.compile(
    rf"(?<=\d)\s*(?:({TEXT_COMMAND})\s*\{{\s*)?[~\s]*(hundred|thousand|million|billion|trillion)s?(?![a-z])(?(1)([^{{}}]*)\}})"
)
SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
CJK_JOINING = r"\u6216\u8005?|\u548c|\u53ca|\u4e0e|\u8207|\u4ee5\u53ca"
JOINING = rf"and|or|und|oder|et|ou|\u0438|\u0438\u043b\u0438|\u3068|\u307e\u305f\u306f|{CJK_JOINING}"
LISTED = re.compile(
    rf",?\s*{TEXT_COMMAND}\s*\{{\s*[,;]?\s*(?:{JOINING}|[yoe;])\s*[,;]?\s*\}}\s*"
    rf"|(?<=[\d)\]}}]),?\s+(?:{JOINING})\s+(?=[-+\d(\[\\]|[a-zA-Z]\s*=)"
    rf"|(?<=[\da-zA-Z)\]}}])(?:\\?\s|~)*[,;]?(?:\\?\s)*(?:{CJK_JOINING})(?:\\?\s|~)*(?=[-+\da-zA-Z(\[\\])"
)
"""What stands between two answers, in several languages; the last form is written without blanks."""
JOINED_UNIT = re.compile(rf"(?<=[\d}}])\s*({TEXT_COMMAND})\s*\{{([^{{}}]*?\w),?\s+(?:{JOINING})\s*\}}\s*(?=[-+\d(\\])")
"""`5\\text{ cm and }6\\text{ cm}`"""
SPAN = re.compile(r"(?<!\\)\$\$?([^$]+)(?<!\\)\$\$?|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
BETWEEN_SPANS = re.compile(rf"[\s,;&/]*(?:(?:{JOINING})[\s,;]*)?", re.IGNORECASE)
SYSTEM = re.compile(r"\\begin\{(cases|aligned|array|gathered)\}(?:\{[a-z|]*\})?(.*?)\\end\{\1\}", re.DOTALL)
ROWS = re.compile(r"\s*(?:(?<!\\)&|\\\\(?![a-zA-Z\\]))\s*")
ACCENT = re.compile(r"\\(bar|hat|vec|tilde|dot|ddot|overline|widehat|widetilde)\s+([a-zA-Z])(?![a-zA-Z])")
PRIMES = re.compile(r"(?<![a-zA-Z])([a-zA-Z])(?:('+)|\^\s*\{?((?:\\prime\s*)+)\}?)(?![a-zA-Z])")
NAMES = (
    (re.compile(r"\\(?:lg(?![a-zA-Z])|operatorname\{lg\})"), r"\\log_{10}"),
    (re.compile(r"\\log_(?:e|\{e\})(?![a-zA-Z])"), r"\\ln "),
    (re.compile(r"\\varnothing(?![a-zA-Z])"), r"\\emptyset"),
)
"""Commands that Math-Verify does not know."""
RECIPROCAL = re.compile(
    r"\\(?:(coth|sech|csch)(?![a-zA-Z])|operatorname\{(coth|sech|csch)\})\s*(\^\s*(?:\d|\{\d+\}))?\s*"
    r"(\([^()]*\)|\{[^{}]*\}|\\frac\{[^{}]*\}\{[^{}]*\}|\d*\s*(?:[a-zA-Z]|\\[a-z]+)|\d+)"
)
RECIPROCALS = {"coth": "tanh", "sech": "cosh", "csch": "sinh"}
RELATION = re.compile(r"[<>]|\\(?:leq?|geq?|lt|gt|neq?|in|leqslant|geqslant)(?![a-zA-Z])")
DECIMAL_COMMA = re.compile(r"^-?(?:\d+,(?:\d{1,2}|\d{4,})|0,\d+|\d{4,},\d+)$")
INTEGER = re.compile(r"^[-+]?\d+$")
RATIONAL = re.compile(r"^([-+]?)(?:\\frac\{(-?\d{1,999})\}\{(\d{1,999})\}|(\d{1,999})/(\d{1,999})|(\d{1,18}))$")
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
        name, top, bottom = match.groups()
        top = top if top.startswith("{") else f"{{{top}}}"
        return f"\\{name}{top}" + (bottom if bottom == "{" else f"{{{bottom}}}")

    text = FRACTION.sub(braced, text) if "frac" in text or "binom" in text else text
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


def join_spans(text: str) -> str:
    r"""`$3$; $12$` -> `3, 12`: formulas with nothing but separators between them are one list, not each an answer."""
    spans = list(SPAN.finditer(text))
    edges = [(0, 0), *(match.span() for match in spans), (len(text), len(text))]
    between = [text[before[1] : after[0]] for before, after in pairwise(edges)]
    if (
        len(spans) < 2
        or between[0].strip()
        or between[-1].strip(" .")
        or not all(map(BETWEEN_SPANS.fullmatch, between[1:-1]))
    ):
        return text
    return ", ".join(next(filter(None, match.groups())).strip() for match in spans)


@lru_cache(maxsize=8192)
def repair(answer: str) -> str:
    """`answer` respelled for Math-Verify, with the same meaning (see the module's first lines). Cached: golds come again."""
    text = strip_delimiters(answer)
    if text.startswith(EMPHASIS):
        text = _unstressed(text)
    if text.isdigit() and text.isascii():
        return text
    text = from_unicode(text)
    if "$" in text or "\\(" in text or "\\[" in text:
        text = join_spans(text)
    if "\\begin{matrix}" in text:
        text = flatten_vertical(text)
    if "\\begin{" in text:
        text = SYSTEM.sub(_rows, text)
    if ("&" in text or "\\\\" in text) and "\\begin" not in text:
        text = ROWS.sub(", ", text)
    text = from_plain(text.replace("\\$", ""))
    text = THOUSANDS.sub(lambda match: match.group(1) + re.sub(r"\D", "", match.group(2)), text)
    text = THIN_SPACE.sub(" ", text)
    text = PLAIN_THOUSANDS.sub(lambda match: re.sub("[, ]", "", match.group(1)), text)
    text = SUBSCRIPT_TEXT.sub(lambda match: f"_{{{match.group(1) or match.group(2)}}}", text)
    text = LONE_LETTER.sub(r"{\1}", ORDINAL.sub("", EULER.sub(r" \1 ", text)))
    text = JOINED_UNIT.sub(r"\1{\2}, ", text)
    if LISTED.search(text) and not RELATION.search(text):  # "and" between inequalities is no list
        text = LISTED.sub(", ", text)
    return _functions(brace_fractions(SCALE.sub(_scaled, text))).strip()


def _unstressed(text: str) -> str:
    r"""`\underline{7}` -> `7`, where it is around all of the answer."""
    opening = text.index("{")
    return strip_delimiters(text[opening + 1 : -1]) if close_brace(text, opening) == len(text) - 1 else text


def _rows(match: re.Match[str]) -> str:
    """A system of equations, one a row, as a list; what has other rows stays."""
    rows = [row.replace("&", " ").strip(" ,;") for row in match.group(2).split("\\\\") if row.strip()]
    return (
        ", ".join(rows)
        if len(rows) > 1 and all(re.fullmatch(r"[^=<>,]+=[^=<>,]+", row) for row in rows)
        else match.group()
    )


def _scaled(match: re.Match[str]) -> str:
    r"""`5\text{ million dollars}` -> `5\times 10^{6}\text{ dollars}`"""
    rest = f"{match.group(1)}{{{match.group(3)}}}" if (match.group(3) or "").strip() else ""
    return f"\\times 10^{{{SCALES[match.group(2)]}}}{rest}"


def _functions(text: str) -> str:
    r"""Respell what Math-Verify drops or does not know: `f'`, `\bar z`, `\lg`, `\operatorname{sech}`."""
    if "'" in text or "\\prime" in text:
        text = PRIMES.sub(_primed, text)
    if "\\" not in text:
        return text
    text = ACCENT.sub(r"\\\1{\2}", text)
    for pattern, name in NAMES:
        text = pattern.sub(name, text)
    text = CELSIUS.sub(r"\1", DERIVATIVE.sub(r"d_{\1\2}", NUMBER_IN_TEXT.sub(r"\1\\text{ \2}", text)))
    if "coth" in text or "ech" in text or "csch" in text:
        text = RECIPROCAL.sub(
            lambda match: f"\\frac{{1}}{{\\{RECIPROCALS[match[1] or match[2]]}{match[3] or ''} {match[4]}}}", text
        )
    return text


def _primed(match: re.Match[str]) -> str:
    order = len(match.group(2) or "") or match.group(3).count("prime")
    return f"\\{'d' * order}ot{{{match.group(1)}}}" if order < 3 else match.group()


def number_of(text: str) -> str:
    """A respelled answer without the unit behind its one number, if that is what it is."""
    unit = TAIL_UNIT.match(text)
    return unit.group(1) if unit else text


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
