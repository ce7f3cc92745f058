"""From a problem to the exact prompt string: one place for generation, training and evaluation.

The prompt is the model's own chat template over one user message, opened for the assistant, plus a forced prefix such as
`<think>\\n`. Training and evaluation call the same two functions, so their prompts are equal byte for byte; traces are
stored *with* the prefix, and `strip_prefix` takes it off where the prompt already holds it.
"""

from __future__ import annotations

from typing import Any, Protocol

from redi_ray.config.prompts import PromptSettings

Message = dict[str, str]


class ChatTokenizer(Protocol):
    """What we need of a transformers tokenizer."""

    def apply_chat_template(self, conversation: Any, *, tokenize: bool, add_generation_prompt: bool) -> Any: ...


def to_messages(problem: str, settings: PromptSettings) -> list[Message]:
    """The chat that asks `problem`: [system], user. Braces in the problem are left alone."""
    user = {"role": "user", "content": settings.template.replace("{problem}", problem)}
    return [{"role": "system", "content": settings.system}, user] if settings.system is not None else [user]


def render_prompt(messages: list[Message], tokenizer: ChatTokenizer, settings: PromptSettings) -> str:
    """The prompt string a model sees before its first generated token."""
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    if settings.prefix and text.endswith(settings.prefix):
        return text  # some templates (R1's distillations) open the reasoning themselves
    return text + settings.prefix


def fold_reasoning(text: str, reasoning: str, settings: PromptSettings) -> str:
    """One completion, `<think>...</think>` and all, of an answer whose reasoning a server has kept apart.

    Without an answer the thought stays open: it was cut off. A text that only closes a thought, because the server's chat
    template had opened it, gets its beginning back.
    """
    opening = settings.prefix if "<think>" in settings.prefix else "<think>\n"
    if not reasoning.strip():
        return opening + text.lstrip() if "</think>" in text and "<think>" not in text else text
    thought = opening + reasoning.strip()
    return f"{thought}\n</think>\n\n{text.strip()}" if text.strip() else thought


def strip_prefix(completion: str, settings: PromptSettings) -> str | None:
    """The completion without the forced prefix, or None if it does not begin with it.

    White space around the prefix is not part of the match: traces of other pipelines have `<think>` where ours has
    `<think>\\n`, and that difference must not end up in the middle of a sequence.
    """
    prefix = settings.prefix.strip()
    if not prefix:
        return completion
    body = completion.lstrip()
    if not body.startswith(prefix):
        return None
    body = body[len(prefix) :]
    trailing = settings.prefix[len(settings.prefix.rstrip()) :]
    return body.removeprefix(trailing) if trailing else body
