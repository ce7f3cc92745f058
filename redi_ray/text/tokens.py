"""From a prompt and a completion to token ids, and what of them is scored.

Prompt and completion are tokenised apart and joined as ids. A model sampling after the prompt sees exactly these prompt
ids, so training matches evaluation token for token; joining the texts first could merge a token across the border.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from redi_ray.config.prompts import PromptSettings
from redi_ray.text.prompts import Message, render_prompt, strip_prefix


@dataclass(frozen=True)
class Encoded:
    """One sequence: `input_ids` is prompt + completion + end-of-turn; the first `prompt_length` ids are the prompt."""

    input_ids: list[int]
    prompt_length: int


def prompt_ids(messages: list[Message], tokenizer: Any, settings: PromptSettings) -> list[int]:
    """Token ids of the rendered prompt. The template writes its special tokens itself, so none are added."""
    return tokenizer(render_prompt(messages, tokenizer, settings), add_special_tokens=False)["input_ids"]


def completion_ids(completion: str, tokenizer: Any, settings: PromptSettings) -> list[int]:
    """Token ids of a completion after the forced prefix, ended by the end-of-turn token.

    Raises ValueError if the completion does not begin with the prefix.
    """
    body = strip_prefix(completion, settings)
    if body is None:
        raise ValueError(f"the completion does not begin with {settings.prefix.strip()!r}: {completion[:60]!r}")
    return [*tokenizer(body, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]


def encode(messages: list[Message], completion: str, tokenizer: Any, settings: PromptSettings) -> Encoded:
    """One training sequence."""
    prompt = prompt_ids(messages, tokenizer, settings)
    return Encoded([*prompt, *completion_ids(completion, tokenizer, settings)], len(prompt))


def tag_places(completion: str, tags: Sequence[str], tokenizer: Any, settings: PromptSettings) -> frozenset[int]:
    """Indices in `completion_ids` of the tokens that hold a tag or a part of one.

    Few vocabularies have `<think>` as a token: elsewhere it is several, which depend on what stands beside it (`>` and a
    line break are often one token, and then both are meant). Needs a fast tokenizer, which knows where its tokens lie.

    Example: tokens `1 | </ | think | >\\n | 2` and the tag `</think>` -> {1, 2, 3}.
    """
    body = strip_prefix(completion, settings) or ""
    spans = [match.span() for match in re.finditer("|".join(map(re.escape, tags)), body)]
    if not spans:
        return frozenset()
    offsets = tokenizer(body, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return frozenset(
        index for index, (start, end) in enumerate(offsets) if any(start < b and a < end for a, b in spans)
    )


def loss_mask(sequence: Encoded, masked_ids: Collection[int] = (), masked_places: Collection[int] = ()) -> list[int]:
    """1 for every scored token of `input_ids`: the completion, less the tokens in `masked_ids` and those at
    `masked_places`, counted from the completion's first token.

    Example: prompt of 2, ids [5, 6, 7, 8, 9], masked ids {9}, masked places {0} -> [0, 0, 0, 1, 0].
    """
    places = enumerate(sequence.input_ids[sequence.prompt_length :])
    scored = [int(token not in masked_ids and place not in masked_places) for place, token in places]
    return [0] * sequence.prompt_length + scored
