"""From a prompt and a completion to token ids, and what of them is scored.

Prompt and completion are tokenised apart and joined as ids. A model sampling after the prompt sees exactly these prompt
ids, so training matches evaluation token for token; joining the texts first could merge a token across the border.

What a problem or a completion says is text: an end-of-turn token that is written in it is tokenised letter by letter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from redi_ray.config.prompts import PromptSettings
from redi_ray.text.prompts import render_prompt, strip_prefix
from redi_ray.text.templates import (
    Message,
    begun,
    closing_id,
    control_ids,
    control_pattern,
    without_ending,
)

ANCHORS = ("\n", "1", ")", "a")
"""Put before a text whose tokenizer would begin it with a space of its own, and cut off again as tokens."""


UNWRITTEN = "\ue0ff"
"""A character for private use, which no text holds."""


@dataclass(frozen=True)
class OwnTurn:
    """A turn of the model's own within a sequence."""

    number: int
    """Which of the turns behind the prompt it is."""
    start: int
    """Its first token in `input_ids`, behind what the prompt, or the template, holds of it."""
    stop: int
    """Behind its last token, which closes the turn where it was not cut off."""
    closed: bool


@dataclass(frozen=True)
class Encoded:
    """One sequence: `input_ids` is prompt + completion + end-of-turn; the first `prompt_length` ids are the prompt."""

    input_ids: list[int]
    prompt_length: int
    own: tuple[OwnTurn, ...] = ()
    """The turns that the model wrote itself, in order; what lies between them is context (`redi_ray.text.turns`)."""


def prompt_ids(messages: list[Message], tokenizer: Any, settings: PromptSettings) -> list[int]:
    """Token ids of the rendered prompt. The template writes its special tokens itself, so none are added."""
    text = render_prompt(messages, tokenizer, settings)
    control = control_pattern(tokenizer)
    said = [(at, m["content"].strip()) for at, m in enumerate(messages) if control and control.search(m["content"])]
    if control is None or not said:
        return tokenizer(text, add_special_tokens=False)["input_ids"]
    hidden = [dict(message) for message in messages]
    marks = {f"Qmarker{at}Q7": content for at, content in said}
    for mark, (at, content) in zip(marks, said, strict=True):
        hidden[at]["content"] = hidden[at]["content"].replace(content, mark)
    frame = render_prompt(hidden, tokenizer, settings)
    return framed_ids(frame, marks, control, tokenizer)


def framed_ids(frame: str, marks: Mapping[str, str], control: re.Pattern[str], tokenizer: Any) -> list[int]:
    """Ids of the rendered chat `frame` with texts in place of its marks: what lies between two of its control tokens is
    tokenised as one piece, in which nothing is control.

    The rest comes out as the tokenizer itself has it: control tokens may take white space beside them away, and some
    tokenizers begin every piece with a space, others only the first.
    """
    pieces = re.split(f"({control.pattern})", frame)
    flags = {token.content: token for token in tokenizer.added_tokens_decoder.values()}

    def ids_of(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    afresh = len(pieces) == 1 or ids_of(pieces[1] + "1") == ids_of(pieces[1]) + ids_of("1")
    ids: list[int] = []
    for number, piece in enumerate(pieces):
        if number % 2:
            ids += ids_of(piece)
            continue
        said = re.sub("|".join(marks), lambda match: marks[match.group()], piece) if marks else piece
        if number > 0 and flags[pieces[number - 1]].rstrip:
            said = said.lstrip()
        if number + 1 < len(pieces) and flags[pieces[number + 1]].lstrip:
            said = said.rstrip()
        if said:
            ids += _plain(said, tokenizer, offsets=False)[0] if afresh or not ids else plain_ids(said, tokenizer)
    return ids


def completion_ids(completion: str, tokenizer: Any, settings: PromptSettings, *, finished: bool = True) -> list[int]:
    """Token ids of a completion after the forced prefix, ended by the token that the template closes a turn with.

    finished: false for one that was cut off, which no such token follows. Raises ValueError if the completion does not
    begin with the prefix.
    """
    body = body_of(completion, tokenizer, settings)
    if body is None:
        raise ValueError(
            f"the completion does not begin with {begun(tokenizer, settings).strip()!r}: {completion[:60]!r}"
        )
    return [*plain_ids(body, tokenizer), *([closing_id(tokenizer)] if finished else [])]


def body_of(completion: str, tokenizer: Any, settings: PromptSettings) -> str | None:
    """What of a completion follows the prompt, without the end-of-turn text that it may end with; None if it does not fit
    the prompt."""
    return strip_prefix(without_ending(completion, tokenizer), settings, begun(tokenizer, settings))


def encode(
    messages: list[Message], completion: str, tokenizer: Any, settings: PromptSettings, *, finished: bool = True
) -> Encoded:
    """One training sequence of a single turn."""
    prompt = prompt_ids(messages, tokenizer, settings)
    ids = [*prompt, *completion_ids(completion, tokenizer, settings, finished=finished)]
    return Encoded(ids, len(prompt), (OwnTurn(0, len(prompt), len(ids), finished),))


def plain_ids(text: str, tokenizer: Any) -> list[int]:
    """Ids of a text that goes on from another one, in which nothing is a control token."""
    return _anchored(text, tokenizer, offsets=False)[0]


def _anchored(text: str, tokenizer: Any, *, offsets: bool) -> tuple[list[int], list[tuple[int, int]]]:
    """Ids of a text that stands in the middle, and where they lie in it. Tokenizers of SentencePiece's kind begin every
    text with a space, so theirs is made part of a longer one."""
    for anchor in ANCHORS if begins_with_space(tokenizer) else ():
        before, _ = _plain(anchor, tokenizer, offsets=False)
        ids, places = _plain(anchor + text, tokenizer, offsets=offsets)
        if ids[: len(before)] == before and tokenizer.decode(before).strip(" ") == anchor:
            start = len(anchor)
            return ids[len(before) :], [(max(0, a - start), max(0, b - start)) for a, b in places[len(before) :]]
    return _plain(text, tokenizer, offsets=offsets)


def _plain(text: str, tokenizer: Any, *, offsets: bool) -> tuple[list[int], list[tuple[int, int]]]:
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=offsets)
    ids = found["input_ids"]
    if control_ids(tokenizer).isdisjoint(ids):
        return ids, found["offset_mapping"] if offsets else []
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"], []
    encoding = _without_control(tokenizer, control_ids(tokenizer)).encode(text, add_special_tokens=False)
    return encoding.ids, encoding.offsets if offsets else []


@lru_cache(maxsize=4)
def _without_control(tokenizer: Any, control: frozenset[int]) -> Any:
    """The same tokenizer, which reads control tokens as text: each keeps its id under a name that no text holds, since ids of
    added tokens are counted, and some models (unigram, WordPiece) take whatever their vocabulary has."""
    from tokenizers import Tokenizer

    state = json.loads(tokenizer.backend_tokenizer.to_str())
    model, added = state["model"], state["added_tokens"]
    hidden = {t["content"]: f"{UNWRITTEN}{t['id']}{UNWRITTEN}" for t in added if t["id"] in control}
    state["added_tokens"] = [{**t, "content": hidden.get(t["content"], t["content"])} for t in added]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {hidden.get(token, token): index for token, index in model["vocab"].items()}
        model |= {"unk_token": hidden.get(unknown, unknown)} if (unknown := model.get("unk_token")) else {}
        if "merges" in model:
            model["merges"] = [pair for pair in model["merges"] if hidden.keys().isdisjoint([*pair, "".join(pair)])]
    else:
        model["vocab"] = [[hidden.get(token, token), score] for token, score in model["vocab"]]
    return Tokenizer.from_str(json.dumps({**state, "post_processor": None, "truncation": None, "padding": None}))


@lru_cache(maxsize=16)
def begins_with_space(tokenizer: Any) -> bool:
    """Whether the tokenizer begins every text with a space, as those of SentencePiece's kind do."""
    one = tokenizer("1", add_special_tokens=False)["input_ids"]
    return " " in tokenizer.decode([*one, *one])


def tag_places(completion: str, tags: Sequence[str], tokenizer: Any, settings: PromptSettings) -> frozenset[int]:
    """Indices in `completion_ids` of the tokens that hold a tag or a part of one.

    Few vocabularies have `<think>` as a token: elsewhere it is several, which depend on what stands beside it (`>` and a
    line break are often one token, and then both are meant). Needs a fast tokenizer, which knows where its tokens lie.

    Example: tokens `1 | </ | think | >\\n | 2` and the tag `</think>` -> {1, 2, 3}.
    """
    body = body_of(completion, tokenizer, settings) or ""
    spans = [match.span() for match in re.finditer("|".join(map(re.escape, tags)), body)]
    if not spans:
        return frozenset()
    offsets = _anchored(body, tokenizer, offsets=True)[1]
    return frozenset(
        index for index, (start, end) in enumerate(offsets) if any(start < b and a < end for a, b in spans)
    )


def places_in(completion: str, tokenizer: Any, settings: PromptSettings) -> list[tuple[int, int]]:
    """Characters `[start, end)` of `completion` that each token of its `completion_ids` stands for, the closing one left out.

    White space that a tokenizer counts to no token belongs to the token behind it. Needs a fast tokenizer. Raises ValueError
    where the body of the completion is no end of it, so that nothing in it can be placed.
    """
    body, bare = body_of(completion, tokenizer, settings), without_ending(completion, tokenizer)
    if body is None or not bare.endswith(body):
        raise ValueError(f"what is trained of the completion is not the end of it: {completion[:60]!r}")
    before, reached, found = len(bare) - len(body), 0, []
    for start, end in _anchored(body, tokenizer, offsets=True)[1]:
        found.append((before + min(start, reached), before + end))
        reached = max(reached, end)
    return found
