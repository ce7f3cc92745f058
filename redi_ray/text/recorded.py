"""Prompts as training made them, kept to be held against those that are made later: as text, as token ids, by the template."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from redi_ray.config.prompts import PromptSettings
from redi_ray.text.prompts import render_prompt, to_messages
from redi_ray.text.templates import Message, template_fingerprint
from redi_ray.text.tokens import prompt_ids

RECORDED = 8
"""Prompts of a record."""
AROUND = 4
"""Tokens before the first one that differs, in a message."""


def record_prompts(chats: Sequence[list[Message]], tokenizer: Any, settings: PromptSettings) -> dict[str, Any]:
    """Plain values for a manifest: `messages` and `text` of the first chat, `template`, and `ids` of the first few chats."""
    some = chats[:RECORDED]
    return {
        "messages": some[0],
        "text": render_prompt(some[0], tokenizer, settings),
        "template": template_fingerprint(tokenizer),
        "ids": [{"messages": chat, "ids": prompt_ids(chat, tokenizer, settings)} for chat in some],
    }


def record_problems(problems: Iterable[str], tokenizer: Any, settings: PromptSettings) -> dict[str, Any]:
    """The same of problems."""
    return record_prompts([to_messages(problem, settings) for problem in problems], tokenizer, settings)


def difference(recorded: Mapping[str, Any], tokenizer: Any, settings: PromptSettings) -> str | None:
    """How the prompts that this tokenizer makes differ from the recorded ones, in words; None if they are the same ids."""
    text = render_prompt(recorded["messages"], tokenizer, settings)
    if text != recorded["text"]:
        return f"the text of a prompt is another:\n  training:   {recorded['text']!r}\n  evaluation: {text!r}"
    for chat in recorded.get("ids", ()):
        here, there = prompt_ids(chat["messages"], tokenizer, settings), chat["ids"]
        if here != there:
            return f"the tokens of a prompt are others: {first_difference(there, here, tokenizer)}"
    if recorded.get("template", template_fingerprint(tokenizer)) != template_fingerprint(tokenizer):
        return "the chat template is another, though these prompts are the same"
    return None


def first_difference(there: Sequence[int], here: Sequence[int], tokenizer: Any) -> str:
    """Where two lists of ids part, with their tokens."""
    at = next((n for n, (a, b) in enumerate(zip(there, here, strict=False)) if a != b), min(len(there), len(here)))
    before = tokenizer.decode(list(here[max(0, at - AROUND) : at]))

    def token(ids: Sequence[int]) -> str:
        return f"{ids[at]} {tokenizer.convert_ids_to_tokens(ids[at])!r}" if at < len(ids) else "nothing"

    return f"token {at}, behind {before!r}, is {token(there)} in training and {token(here)} in evaluation"
