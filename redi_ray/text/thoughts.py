"""Where a thought opens and closes in a text: the one place that knows the tags, and how a completion's thought is mended.

Traces come in several forms: with the opening tag and without it (the chat template had written it, so that it was part of
the prompt), and with it twice. What is trained on opens its thought once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from redi_ray.config.prompts import END_THINK, THINK

THINK_TAGS = (THINK, END_THINK)
THOUGHTS = (
    THINK_TAGS,
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("\u25c1think\u25b7", "\u25c1/think\u25b7"),
    ("<|channel|>analysis", "<|channel|>final"),
)
"""Pairs of tags around a thought."""
DEFAULT_OPENING = f"{THINK}\n"
_TAGS = {tag: (pair, tag == pair[0]) for pair in THOUGHTS for tag in pair}
_TAG = re.compile("|".join(map(re.escape, _TAGS)))
_EMPTY = re.compile("|".join(rf"\A\s*{re.escape(opening)}\s*{re.escape(closing)}\s*" for opening, closing in THOUGHTS))


@dataclass(frozen=True)
class Thought:
    """How far the thought is at the end of a text."""

    opening: str
    """The tag that opens it."""
    open: bool
    """False where it has been closed again."""
    written: str
    """From that tag on; of a thought that is closed, from its opening if the text has it."""


def last_thought(text: str) -> Thought | None:
    """The thought that `text` ends in or has closed last; None where it has no tag.

    Example: `last_thought("<|assistant|><think>\\n") == Thought("<think>", True, "<think>\\n")`.
    """
    found = list(_TAG.finditer(text))
    if not found:
        return None
    pair, opens = _TAGS[found[-1].group()]
    start = found[-1].start()
    if not opens and len(found) > 1 and found[-2].group() == pair[0]:
        start = found[-2].start()
    return Thought(pair[0], opens, text[start:])


def response_start(text: str) -> int | None:
    """Where the response begins: at the tag that closes the last thought; None where the text closes none.

    Example: `response_start("<think>a</think>b") == 8`.
    """
    closing = [match.start() for match in _TAG.finditer(text) if not _TAGS[match.group()][1]]
    return closing[-1] if closing else None


def in_parts(text: str) -> tuple[str, str]:
    """The thought of a text, tags and all, and the response behind it. What never closes its thought has no response, what has no
    tag of one is all response.

    Example: `in_parts("<think>a</think>b") == ("<think>a", "</think>b")`.
    """
    begun = response_start(text)
    if begun is not None:
        return text[:begun], text[begun:]
    return (text, "") if _TAG.search(text) else ("", text)


def without_tags(text: str) -> str:
    """The text without the tags of its thoughts."""
    return _TAG.sub("", text)


def opening_tag(prefix: str) -> str | None:
    """The tag that a forced prefix begins with, white space aside."""
    return next((opening for opening, _ in THOUGHTS if prefix.lstrip().startswith(opening)), None)


def begins_inside(text: str, opening: str) -> bool:
    """Whether `text` closes a thought that it has not opened."""
    start, end = text.find(opening), text.find(closing_of(opening))
    return end >= 0 and not 0 <= start < end


def closing_of(opening: str) -> str:
    """The tag that closes what `opening` opens."""
    return dict(THOUGHTS)[opening]


def opened_once(text: str, prefix: str) -> str:
    """A completion whose thought is opened once: one that begins inside the thought gets its beginning back, and of a tag
    that stands there twice one stays. What holds no thought is left as it is.

    prefix: the forced one. It is the beginning that is given back if it opens a thought, else `<think>` is.
    """
    beginning = prefix if opening_tag(prefix) else DEFAULT_OPENING
    opening = opening_tag(beginning) or THINK
    if begins_inside(text, opening):
        return beginning + text.lstrip()
    doubled = re.match(rf"\s*{re.escape(opening)}\s*(?={re.escape(opening)})", text)
    while doubled:
        text = text[doubled.end() :]
        doubled = re.match(rf"\s*{re.escape(opening)}\s*(?={re.escape(opening)})", text)
    return text


def told_once(text: str, reasoning: str) -> tuple[str, str]:
    """An answer's text and its reasoning, which a server has kept apart, without tags around the reasoning, and of a text that
    holds the reasoning once more only what follows it.

    Example: `told_once("<think>2+2</think>4", "<think>2+2</think>") == ("4", "2+2")`.
    """
    thought = reasoning.strip()
    for opening, closing in THOUGHTS:
        if thought.startswith(opening):
            while thought.startswith(opening):
                thought = thought.removeprefix(opening).lstrip()
            inner, closed, answer = thought.rpartition(closing)
            thought = inner if closed else thought
            if closed and not _holds(text, answer):
                text = f"{answer.strip()}\n\n{text.strip()}"
        thought = thought.strip().removesuffix(closing)
        begun = text.lstrip()
        inner, closed, answer = begun.removeprefix(opening).partition(closing)
        if begun.startswith(opening) or (closed and (_holds(thought, inner) or _holds(inner, thought))):
            text = answer
            if not _holds(thought, inner):
                thought = inner if _holds(inner, thought) else f"{thought.strip()}\n\n{inner}"
    return text.strip(), thought.strip()


def _holds(text: str, part: str) -> bool:
    """Whether `part` stands in `text`, white space aside."""
    return "".join(part.split()) in "".join(text.split())


def without_empty_thought(text: str) -> str:
    """What follows a thought that is closed with nothing in it; the text itself where it does not begin with one."""
    return _EMPTY.sub("", text, count=1)
