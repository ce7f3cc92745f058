r"""The boxes of a text, `\boxed{...}` and `\fbox{...}`, found by brace matching. Linear in the text."""

from __future__ import annotations

import re

BOX_OPENING = re.compile(r"\\boxed\s*(\{|-?\d[\d.,]*)")
BRACES = re.compile(r"\\.|[{}]", re.DOTALL)
GAP_CHARS = 70
"""Boxes further apart than this are separate answers."""
MAX_JOINED = 32
"""Boxes joined into one answer at most: a text that loops over boxes gives no list of answers."""
CONJUNCTION = re.compile(r"\b(?:and|or)\b|,|;", re.IGNORECASE)
INTERRUPTION = re.compile(
    r"[.!?:](?:\s|$)|\n\s*\n|=>|</?\w+>|\|>|\\(?:implies|Rightarrow|to)\b"
    r"|\b(?:wait|but|not?|actually|so|hence|thus|then|therefore|instead|rather|check|hmm|again|which|(?<!and )finally)\b",
    re.IGNORECASE,
)
"""Between two boxes: the second is a new statement, not the next item of a list."""
DELIMITERS = re.compile(r"\$+|\\[()\[\]]|\\q?quad\b|\\[,;: ]|\\text\b")
PLACEHOLDER = re.compile(
    r"(?:\\text\w*\s*\{)?\s*(?:(?:the|your|my|final)\s+)*(?:answer|\.{2,}|\\[lc]?dots|\u2026)\s*(?:here)?\s*\}?", re.I
)
"""Content that only says where an answer goes."""


CUT_OPENING = re.compile(r"\\(?:f?b(?:o(?:xe?)?)?|f|(?:boxed|fbox)[\s$*]*)$")
"""The text ends within the word that opens a box, or right behind it."""


def close_brace(text: str, start: int) -> int:
    r"""Index of the brace that closes the one at `start`, or -1. Escaped braces (`\{`) do not count."""
    depth = 0
    for match in BRACES.finditer(text, start):
        symbol = match.group()
        if symbol == "{":
            depth += 1
        elif symbol == "}":
            depth -= 1
            if depth == 0:
                return match.start()
    return -1


def last_box(text: str, end: int) -> tuple[int, int, str] | None:
    """Start, end and content of the last box that begins before `end`; content is "" where its brace never closes."""
    while (start := text.rfind("\\boxed", 0, end)) >= 0:
        end = start
        opening = BOX_OPENING.match(text, start)
        if opening is None:  # the bare word in a sentence
            continue
        if opening.group(1) != "{":  # \boxed 5
            return start, opening.end(), opening.group(1).rstrip(".,")
        closing = close_brace(text, opening.end() - 1)
        if closing < 0:
            return start, len(text) + 1, ""
        content = text[opening.end() : closing].strip()
        empty = not content or (len(content) < 40 and PLACEHOLDER.fullmatch(content))
        return start, closing + 1, "" if empty else content
    return None


def last_full_box(text: str) -> tuple[int, int, str] | None:
    """The last box that is not empty (see `last_box`); one that never closes counts, and has no content."""
    if cut := CUT_OPENING.search(text, max(0, len(text) - 20)):
        return cut.start(), len(text) + 1, ""
    found = last_box(text, len(text))
    while found is not None and not found[2] and found[1] <= len(text):
        found = last_box(text, found[0])
    return found


def extract_boxed(text: str) -> str | None:
    r"""The content of the last box that is not empty; boxes listed in one breath (`\boxed{1} and \boxed{2}`) are joined.

    None where the last box was cut off: an earlier box is then no final answer.
    """
    return read_boxes(text)[0]


def read_boxes(text: str) -> tuple[str | None, str | None]:
    """The answer of `extract_boxed`; and if the last box never closes, the text from there on."""
    text = text.replace("\\fbox", "\\boxed")
    found = last_full_box(text)
    if found is None or not found[2]:
        return None, text[found[0] :] if found else None
    answers = [found[2]]
    for _ in range(MAX_JOINED):
        previous = last_box(text, found[0])
        if previous is None or not previous[2] or not 0 <= found[0] - previous[1] <= GAP_CHARS:
            return ",".join(reversed(answers)), None
        between = DELIMITERS.sub(" ", text[previous[1] : found[0]])
        if between.strip() and (INTERRUPTION.search(between) or not CONJUNCTION.search(between)):
            return ",".join(reversed(answers)), None
        if previous[2] not in answers:
            answers.append(previous[2])
        found = previous
    return answers[0], None
