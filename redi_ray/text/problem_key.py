"""When two texts are the same problem."""

from __future__ import annotations

import re

from redi_ray.text.normalize import ACCENT, TEXT, brace_fractions
from redi_ray.text.symbols import from_unicode

COMMAND = re.compile(r"\\([a-zA-Z]+)")
SPACING = re.compile(r"\\[,;:! ()\[\]]|[$~]")
UNSEEN = "left right displaystyle textstyle limits nolimits quad qquad big Big bigg Bigg"
SYNONYMS = {
    **{name: " " for word in UNSEEN.split() for name in (word, word + "l", word + "r", word + "m")},
    **{kind + name: f"\\{name}" for name in ("frac", "binom") for kind in "dtc"},
    **{name + kind: f"\\{name}" for name in ("le", "ge", "ne") for kind in ("q", "qslant", "slant")},
    **dict.fromkeys(("dots", "ldots", "dotsc"), "..."),
    "lt": "<",
    "gt": ">",
    "varnothing": r"\emptyset",
    "bar": r"\overline",
}
"""LaTeX's commands that are written otherwise, or not at all, elsewhere."""
RELATIONS = (("<=", r"\le "), (">=", r"\ge "), ("!=", r"\ne "))
LONE_SCRIPT = re.compile(r"([\^_])\s*\{\s*(\\[a-z]+|\w)\s*\}")
PUNCTUATION = re.compile(r"""\s|(?<!\d)[.,:!]|[.,:](?!\d)|[;?"`\u2018\u2019\u201c\u201d]|'(?!'*\()""")
"""Spared: point, comma and colon inside numbers, the factorial behind one, the prime of a derivative."""


def problem_key(text: str) -> str:
    r"""`text` without case, white space, punctuation and what LaTeX adds to look at: equal keys mean the same problem.

    Signs that carry meaning stay, and Unicode's are those of LaTeX: `2\u2074` is `2^4` and not `24`.

    Example: `Find  $x$, if \(x+1 = 2\).` -> `findxifx+1=2`.
    """
    text = from_unicode(text)
    if "=" in text:
        for sign, command in RELATIONS:
            text = text.replace(sign, command)
    if "\\" in text:
        text = COMMAND.sub(_synonym, ACCENT.sub(r"\\\1{\2}", TEXT.sub(r" \1 ", text)))
        text = SPACING.sub(" ", brace_fractions(text))
    else:
        text = SPACING.sub(" ", text)
    return PUNCTUATION.sub("", LONE_SCRIPT.sub(r"\1\2", text.casefold()))


def _synonym(match: re.Match[str]) -> str:
    return SYNONYMS.get(match.group(1), match.group())
