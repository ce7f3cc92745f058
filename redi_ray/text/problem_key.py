"""When two texts are the same problem."""

from __future__ import annotations

import re
import unicodedata

TYPESETTING = re.compile(r"\\(?:left|right|displaystyle|qquad|quad)(?![a-zA-Z])|\\[,;:! ()\[\]]|[$~]")
PUNCTUATION = re.compile(r"""\s|(?<!\d)[.,:!]|[.,:](?!\d)|[;?"`\u2018\u2019\u201c\u201d]|'(?!\()""")
"""Spared: point, comma and colon inside numbers, the factorial behind one, the prime of a derivative."""


def problem_key(text: str) -> str:
    r"""`text` without case, white space, punctuation and what LaTeX adds to look at: equal keys mean the same problem.

    Signs that carry meaning stay.

    Example: `Find  $x$, if \(x+1 = 2\).` -> `findxifx+1=2`.
    """
    text = TYPESETTING.sub(" ", unicodedata.normalize("NFKC", text).casefold())
    return PUNCTUATION.sub("", text)
