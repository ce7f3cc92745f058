"""A solution as steps: spans of characters that cover the text, so that no step loses or gains a character.

A text has one of these forms, and a step begins

- `headers`: at a line that begins with "Step k", plain or in Markdown;
- `equations`: at every line, where most lines are equations of numbers and nothing else, as in the built-in world;
- `numbered`: at the lines that count 1, 2, 3, ...;
- `paragraphs`: behind blank lines;
- `sentences`: behind the end of a sentence, or at a new line.

No step begins inside a block of code, and no paragraph or sentence inside a formula. White space between two steps belongs to
the first of them; what says nothing (`<think>`, a rule, a bracket) to the step behind it, and at the end to the one before. With
headers and numbers, what stands before the first is part of the first step, and what follows the last of the last.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import get_args

from redi_ray.config.locators import Form
from redi_ray.text.thoughts import THOUGHTS, response_start

FORMS: tuple[Form, ...] = get_args(Form)
NAMED = ("headers", "numbered")
"""Forms whose steps say which they are."""

RIGHT, WRONG, NEUTRAL, UNSEEN = "right", "wrong", "neutral", "unseen"
LABELS = (RIGHT, WRONG, NEUTRAL, UNSEEN)
"""Labels of steps: `neutral` is what a judge finds neither right nor wrong, and counts as the error; `unseen` what nobody looked
at, such as every step behind the first wrong one."""

_BOLD = r"(?:\*\*|__|[*_])?"
_MARKS = rf"[ \t]*(?:[#>]+[ \t]*|[-*+][ \t]+)?{_BOLD}"
_COLON = r"(?:[ \t]*[:.)\uff1a]|[ \t]+[-\u2013\u2014](?=\s))?"
_HEADER = re.compile(rf"^{_MARKS}(?:Step|STEP)[ \t]+\d+(?:\.\d+)*(?!\w){_BOLD}{_COLON}{_BOLD}", re.MULTILINE)
_NUMBER = re.compile(r"^(?P<indent>[ \t]*)(?:#+[ \t]*)?(?:\*\*|__)?(?P<number>\d{1,4})[.)](?=[\s*])", re.MULTILINE)
_NUMBERS_ONLY = re.compile(r"[\d\s+*/().,=%^\u00d7\u00f7\u2212-]{3,200}")
_BOX = re.compile(r"\\boxed\{[^{}]*\}\.?")
_TAGS = re.compile("|".join(re.escape(tag) for pair in THOUGHTS for tag in pair))
_BLANK = re.compile(r"\n[ \t\r]*\n\s*")
_CODE = r"^[ \t]*```[\s\S]*?(?:^[ \t]*```|\Z)"  # to the end where it is never closed
_CODE_ONLY = re.compile(_CODE, re.MULTILINE)
_CLOSED = re.compile(
    rf"{_CODE}"
    r"|\$\$[\s\S]{1,4000}?\$\$"
    r"|\\\[(?:(?!\\\[)[\s\S]){1,4000}?\\\]|\\\((?:(?!\\\()[^\n]){1,1000}?\\\)"
    r"|\\begin\{(\w+\*?)\}(?:(?!\\begin\{)[\s\S]){1,4000}?\\end\{\1\}"
    r"|`[^`\n]+`"
    r"|(?<![\\$])\$(?=[^\s$])[^$\n]{0,400}?(?<=[^\s\\])\$(?!\d)",  # $x$ is a formula, $5 and $6 are prices
    re.MULTILINE,
)
_QUOTES = r"[\"'\u201d\u2019)\]*_]*"
_SENTENCE = re.compile(rf"[.!?]{_QUOTES}\s+(?=\S)|[\u3002\uff01\uff1f]{_QUOTES}\s*(?=\S)|\n\s*(?=\S)")
_SHORT = re.compile(
    r"(?:^|[\s(])(?:e\.g|i\.e|etc|cf|vs|viz|approx|resp|[Ee]qs?|[Ff]igs?|[Nn]os?|Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr)$|^[ \t]*\d+$"
)


def split_steps(text: str, form: Form | None = None) -> list[tuple[int, int]]:
    """The steps of a solution, `[start, end)` in characters, in order; they cover the text. None for an empty text.

    form: how it is split, whatever it looks like; by default as `form_of` says. Example: `split_steps("Step 1: a\\nStep 2: b")
    == [(0, 10), (10, 19)]`.
    """
    if not text:
        return []
    form = form or form_of(text)
    starts = _open_starts(text, form)
    if form in NAMED:
        starts = starts[1:]
    return _that_say_something(text, list(pairwise([0, *(at for at in starts if at > 0), len(text)])))


def form_of(text: str) -> Form:
    """The form of a solution: the first of `FORMS` that shows in it more than once, a header even once, else `sentences`."""
    if _open_starts(text, "headers"):
        return "headers"
    lines = [line for line in (_TAGS.sub("", line).strip() for line in text.splitlines()) if line]
    lines = [line for line in lines if not _BOX.fullmatch(line)]
    if 2 * sum(map(_is_equation, lines)) > len(lines):
        return "equations"
    if len(_open_starts(text, "numbered")) > 1:
        return "numbered"
    return "paragraphs" if len(split_steps(text, "paragraphs")) > 1 else "sentences"


def split_header(step: str) -> int:
    """Where the header "Step k:" of a step ends, with what stands before it; 0 where it has none.

    Example: `split_header("Step 2: b") == 7`, and `split_header("**Step 2:** b") == 11`.
    """
    match = _HEADER.search(step)
    return match.end() if match else 0


def without_header(step: str) -> str:
    """The step with what stands before and behind its header: `**Step 2:** b` is ` b`."""
    return _HEADER.sub("", step, count=1)


def thinking_and_response(
    text: str, steps: Sequence[tuple[int, int]]
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """What of each step stands before the response, and what in it, in characters; pieces that say nothing are left out. A text
    that closes no thought is thinking alone.

    Example: of "a. b</think>c" the steps (0, 3) and (3, 13) give [(0, 3), (3, 4)] and [(4, 13)].
    """
    begun = response_start(text)
    border = len(text) if begun is None else begun
    before = [(start, min(end, border)) for start, end in steps if start < border]
    behind = [(max(start, border), end) for start, end in steps if end > border]
    thinking, response = ([piece for piece in pieces if _says(text[slice(*piece)])] for pieces in (before, behind))
    return thinking, response


def first_wrong(labels: Sequence[str]) -> int | None:
    """The first step whose label is that of an error; None where there is none."""
    return next((at for at, label in enumerate(labels) if label in (WRONG, NEUTRAL)), None)


def step_body(text: str, step: tuple[int, int]) -> tuple[int, int]:
    """What of a step is written anew: the step without its header and without the white space behind it; in characters.

    Example: of "Step 1: a\\nStep 2: b\\nStep 3: c" the second step's is " b", behind "Step 1: a\\nStep 2:".
    """
    start, end = step
    start += split_header(text[start:end])
    return start, max(start, start + len(text[start:end].rstrip()))


def _open_starts(text: str, form: Form) -> list[int]:
    """Where steps of this form begin, in order: none inside a block of code, and but for headers and numbers in a formula."""
    closed = [match.span() for match in (_CODE_ONLY if form in NAMED else _CLOSED).finditer(text)]
    return [at for at in _starts(text.rstrip(), form) if not _inside(at, closed)]


def _starts(text: str, form: Form) -> list[int]:
    if form == "headers":
        return [match.start() for match in _HEADER.finditer(text)]
    if form == "equations":
        return [match.end() for match in re.finditer(r"\n", text)]
    if form == "numbered":
        return list(_counting(text))
    if form == "paragraphs":
        return [text.rfind("\n", 0, match.end()) + 1 for match in _BLANK.finditer(text)]
    return [match.end() for match in _SENTENCE.finditer(text) if _ends(text, match)]


def _is_equation(line: str) -> bool:
    before, _, after = line.partition("=")
    return _NUMBERS_ONLY.fullmatch(line) is not None and any(map(str.isdigit, before)) and any(map(str.isdigit, after))


def _counting(text: str) -> Iterator[int]:
    """Lines that go on counting from 1, at one indentation; so a list within a list does not count."""
    wanted, indent = 1, None
    for match in _NUMBER.finditer(text):
        if int(match["number"]) == wanted and indent in (None, match["indent"]):
            wanted, indent = wanted + 1, match["indent"]
            yield match.start()


def _ends(text: str, match: re.Match[str]) -> bool:
    """Whether a sentence ends there: not in `e.g. this`, `2. that`, nor before a small letter."""
    if text[match.end()].islower():
        return False
    if text[match.start()] != ".":
        return True
    line = text.rfind("\n", 0, match.start()) + 1
    return _SHORT.search(text[max(line, match.start() - 12) : match.start()]) is None


def _inside(at: int, closed: list[tuple[int, int]]) -> bool:
    before = bisect_right(closed, (at, -1)) - 1
    return before >= 0 and closed[before][0] < at < closed[before][1]


def _says(text: str) -> bool:
    return any(map(str.isalnum, _TAGS.sub("", text)))


def _that_say_something(text: str, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same cover with each span that has neither letter nor digit joined to the one behind it, the last to the one before."""
    found: list[tuple[int, int]] = []
    begun = 0
    for start, end in spans:
        if _says(text[start:end]):
            found.append((begun, end))
            begun = end
    if begun < len(text):
        found[-1:] = [(found[-1][0] if found else 0, len(text))]
    return found
