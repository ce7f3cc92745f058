"""Completions that never came to an end: caught in a loop, or cut off.

A loop is a tail that equals itself one period earlier, over several periods (`redi_ray.config.loops`). Only exact
repetition counts: passages that differ by a counter are not found, and what is found is hardly ever left again. Of 9,476
real traces the default settings would have stopped 196, one of which went on to an answer; among the long chains of
thought of one benchmark the stopped parts were 46% of all text.
"""

from __future__ import annotations

from collections.abc import Sequence

from redi_ray.config.loops import LoopSettings
from redi_ray.text.boxes import extract_boxed
from redi_ray.text.extract import CONCLUSION_CHARS, SENTENCE_ENDS
from redi_ray.text.thoughts import THOUGHTS

CHARS_PER_TOKEN = 4
"""Of English with formulas, roughly: turns the settings' tokens into characters where there are no token ids."""
KEY = 8
"""The last so many items are searched for first; where they stand again is a candidate for the period."""
ANNOUNCED = ("answer", "####", "A:")


def loop_period(text: str, *, min_repeats: int, min_length: int, max_period: int) -> int | None:
    """The shortest period of a tail of at least `min_repeats` periods and `min_length` characters; None without one.

    The tail may end anywhere within its passage. Example: `loop_period("so abcabcabcab", min_repeats=3, min_length=8,
    max_period=10) == 3`.
    """
    size = len(text)
    start = size - min(KEY, min_length // 2)
    key, at = text[start:], start
    while (at := text.rfind(key, max(0, start - max_period), at + len(key) - 1)) >= 0:
        period = start - at
        length = max(min_repeats * period, min_length)
        if length > size:
            return None
        if text[size - length + period :] == text[size - length : size - period]:
            return period
    return None


def token_loop(tokens: Sequence[int], settings: LoopSettings) -> int | None:
    """The period, in tokens, of the loop that a completion ends in; None if it does not. `tokens`: int[num_tokens]."""
    if len(tokens) < settings.min_tokens:
        return None
    near = as_text(tokens[-(settings.max_period + KEY) :])
    if near.rfind(near[-KEY:], 0, len(near) - 1) < 0:  # most completions are done here, and it looks at few tokens
        return None
    far = as_text(tokens[-max(settings.min_tokens, settings.min_repeats * settings.max_period) :])
    return loop_period(
        far, min_repeats=settings.min_repeats, min_length=settings.min_tokens, max_period=settings.max_period
    )


def text_loop(text: str, settings: LoopSettings) -> int | None:
    """The same for text without token ids: the period in characters."""
    return loop_period(
        text,
        min_repeats=settings.min_repeats,
        min_length=settings.min_tokens * CHARS_PER_TOKEN,
        max_period=settings.max_period * CHARS_PER_TOKEN,
    )


def as_text(tokens: Sequence[int]) -> str:
    """One character per token id, so that searching and comparing run at the speed of strings."""
    return "".join(map(chr, tokens))


def infer_finish_reason(completion: str, settings: LoopSettings) -> str | None:
    """What shows that a completion without a finish reason did not end by itself: `loop`, `length`, or None.

    `length`: its thought is never closed, or it is long and has neither an explicit answer nor an end like that of a
    sentence. What looks whole stays unknown (None), because a cut can fall between two sentences.
    """
    if text_loop(completion, settings):
        return "loop"
    for opening, closing in THOUGHTS:
        if completion.rfind(opening) > completion.rfind(closing):
            return "length"
    tail = completion[-CONCLUSION_CHARS:].rstrip()
    if (
        len(completion) <= CONCLUSION_CHARS
        or tail.endswith(SENTENCE_ENDS)
        or any(marker in tail for marker in ANNOUNCED)
    ):
        return None
    return None if extract_boxed(completion) is not None else "length"
