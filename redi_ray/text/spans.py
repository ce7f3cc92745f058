"""Spans of characters -> what each token weighs, or which unit it belongs to.

A span is part of one of the model's own turns: characters `[start, end)` of the turn's text as it is stored, with a value. A
token takes the span that holds most of its characters; of two that hold equally many the earlier one. So a token on the border
of a span and nothing belongs to the span. Tokens without characters, such as the one that closes a turn, are in no span.

Where a tokenizer's tokens lie in the text is known to fast tokenizers only; others are refused.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from redi_ray.config.prompts import PromptSettings
from redi_ray.errors import UserError
from redi_ray.text.templates import Message
from redi_ray.text.tokens import Encoded, places_in


@dataclass(frozen=True)
class Span:
    """Characters `[start, end)` of the turn number `turn` behind the prompt."""

    turn: int
    start: int
    end: int
    value: float


def own_weights(sequence: Encoded) -> np.ndarray:
    """`[T]` float32: 1 for every token of the model's own turns and what closes them, 0 elsewhere."""
    weights = np.zeros(len(sequence.input_ids), np.float32)
    for turn in sequence.own:
        weights[turn.start : turn.stop] = 1
    return weights


def require_offsets(tokenizer: Any, what: str) -> None:
    """Raise UserError, naming `what` needs it, unless the tokenizer can tell which tokens a part of a text is."""
    if not tokenizer.is_fast:
        raise UserError(
            f"{what} needs a tokenizer that knows where its tokens lie in the text (a fast one), and "
            f"{type(tokenizer).__name__} does not; leave it off"
        )


def span_of_tokens(
    sequence: Encoded, turns: Sequence[Message], spans: Sequence[Span], tokenizer: Any, settings: PromptSettings
) -> np.ndarray:
    """`[T]` int64: which of `spans` each token of the sequence is in, -1 for none. A span that ends one character behind its
    turn's text has the token that closes the turn, too.

    Raises UserError for a tokenizer without offsets, ValueError for spans that overlap, lie outside their turn's text, or in a
    turn that is not the model's own.
    """
    require_offsets(tokenizer, "a span of characters")
    found = np.full(len(sequence.input_ids), -1, np.int64)
    of_turn: dict[int, list[int]] = defaultdict(list)
    for number, span in enumerate(spans):
        of_turn[span.turn].append(number)
    own = {turn.number: turn for turn in sequence.own}
    for number, mine in of_turn.items():
        if number not in own:
            raise ValueError(f"a span in turn {number}, which is none of the model's own ({', '.join(map(str, own))})")
        mine.sort(key=lambda at: spans[at].start)
        text, turn = turns[number]["content"], own[number]
        _check(text, [spans[at] for at in mine])
        places = places_in(text, tokenizer, settings)
        assert len(places) == turn.stop - turn.start - turn.closed, (len(places), turn)
        for place, at in enumerate(_most(places, [spans[at] for at in mine])):
            found[turn.start + place] = -1 if at < 0 else mine[at]
        if turn.closed and spans[mine[-1]].end > len(text):
            found[turn.stop - 1] = mine[-1]
    return found


def _check(text: str, spans: list[Span]) -> None:
    """spans: of one turn, in order."""
    for span, before in zip(spans, [None, *spans], strict=False):
        if not 0 <= span.start < span.end <= len(text) + 1 or span.start == len(text):
            raise ValueError(f"characters [{span.start}, {span.end}) of turn {span.turn}, which has {len(text)}")
        if before is not None and span.start < before.end:
            raise ValueError(f"two spans of turn {span.turn} overlap at character {span.start}")
        if not np.isfinite(span.value):
            raise ValueError(f"the span at character {span.start} of turn {span.turn} has the value {span.value}")


def _most(places: list[tuple[int, int]], spans: list[Span]) -> list[int]:
    """Of each token the span that holds most of it, -1 for none; both in the order of the text."""
    found, first = [], 0
    for start, end in places:
        while first < len(spans) and spans[first].end <= start:
            first += 1
        best, most, at = -1, 0, first
        while at < len(spans) and spans[at].start < end:
            held = min(end, spans[at].end) - max(start, spans[at].start)
            if held > most:
                best, most = at, held
            at += 1
        found.append(best)
    return found
