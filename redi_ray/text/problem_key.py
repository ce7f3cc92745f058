"""When two texts are the same problem."""

from __future__ import annotations

import re

from redi_ray.text.normalize import ACCENT, TEXT, brace_fractions
from redi_ray.text.symbols import from_unicode

TYPESETTING = re.compile(
    r"\\(?:left|right|displaystyle|textstyle|limits|nolimits|qquad|quad|[bB]igg?[lrm]?)(?![a-zA-Z])|\\[,;:! ()\[\]]|[$~]"
)
SYNONYMS = (
    (re.compile(r"\\[dtc](frac|binom)(?![a-zA-Z])"), r"\\\1"),
    (re.compile(r"\\(le|ge|ne)q(?:slant)?(?![a-zA-Z])|\\(le|ge)slant(?![a-zA-Z])"), r"\\\1\2"),
    (re.compile(r"<="), r"\\le"),
    (re.compile(r">="), r"\\ge"),
    (re.compile(r"!="), r"\\ne"),
    (re.compile(r"\\lt(?![a-zA-Z])"), "<"),
    (re.compile(r"\\gt(?![a-zA-Z])"), ">"),
    (re.compile(r"\\(?:l|c|d)dots(?![a-zA-Z])"), "..."),
    (re.compile(r"\\(?:var|empty)(?:nothing|set)(?![a-zA-Z])"), r"\\emptyset"),
)
LONE_SCRIPT = re.compile(r"([\^_])\s*\{\s*(\\[a-z]+|\w)\s*\}")
PUNCTUATION = re.compile(r"""\s|(?<!\d)[.,:!]|[.,:](?!\d)|[;?"`\u2018\u2019\u201c\u201d]|'(?!\()""")
"""Spared: point, comma and colon inside numbers, the factorial behind one, the prime of a derivative."""


def problem_key(text: str) -> str:
    r"""`text` without case, white space, punctuation and what LaTeX adds to look at: equal keys mean the same problem.

    Signs that carry meaning stay, and Unicode's are those of LaTeX: `2\u2074` is `2^4` and not `24`.

    Example: `Find  $x$, if \(x+1 = 2\).` -> `findxifx+1=2`.
    """
    text = from_unicode(text)
    if "\\" in text or "=" in text:
        text = brace_fractions(ACCENT.sub(r"\\\1{\2}", TEXT.sub(r" \1 ", text)))
        for pattern, name in SYNONYMS:
            text = pattern.sub(name, text)
    text = TYPESETTING.sub(" ", text.casefold())
    return PUNCTUATION.sub("", LONE_SCRIPT.sub(r"\1\2", text))
