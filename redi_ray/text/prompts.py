"""From a problem to the exact prompt string: one place for generation, training and evaluation.

The prompt is the model's own chat template over the user's message and what went before it, opened for the assistant, plus a
forced prefix such as `<think>\\n`. Training and evaluation call the same two functions, so their prompts are equal byte for
byte; traces are stored *with* the prefix, and `strip_prefix` takes it off where the prompt already holds it.
"""

from __future__ import annotations

from typing import Any

from redi_ray.config.prompts import END_THINK, THINK, PromptSettings
from redi_ray.text.dialogue import dialogue_of
from redi_ray.text.templates import Message, forced_text, render, turn_of
from redi_ray.text.thoughts import (
    DEFAULT_OPENING,
    begins_inside,
    last_thought,
    opened_once,
    opening_tag,
    told_once,
    without_empty_thought,
)


def to_messages(problem: str, settings: PromptSettings) -> list[Message]:
    """The chat that asks `problem`: [system], what went before in a dialogue, user. Braces in the problem are left alone."""
    *before, last = dialogue_of(problem)
    user = {"role": "user", "content": settings.template.replace("{problem}", last["content"])}
    system = [] if settings.system is None else [{"role": "system", "content": settings.system}]
    return [*system, *before, user]


def render_prompt(messages: list[Message], tokenizer: Any, settings: PromptSettings) -> str:
    """The prompt string a model sees before its first generated token. Raises PromptError where there is none."""
    text = render(messages, tokenizer, settings)
    return text + forced_text(turn_of(text, messages, tokenizer, settings), tokenizer, settings)


def fold_reasoning(text: str, reasoning: str, settings: PromptSettings) -> str:
    """One completion, `<think>...</think>` and all, of an answer whose reasoning a server has kept apart.

    Without an answer the thought stays open: it was cut off. A text that only closes a thought, because the server's chat
    template had opened it, gets its beginning back. Tags that the server has left on the reasoning, and a text that repeats
    it, make no second thought.
    """
    opening = settings.prefix if opening_tag(settings.prefix) == THINK else DEFAULT_OPENING
    if not reasoning.strip():
        return opened_once(text, opening)
    text, reasoning = told_once(text, reasoning)
    thought = opening + reasoning
    return f"{thought}\n{END_THINK}\n\n{text}" if text else thought


def strip_prefix(completion: str, settings: PromptSettings, begun: str | None = None) -> str | None:
    """The completion without what the prompt holds of it already, or None if it does not begin with that.

    White space around the prefix is not part of the match: traces of other pipelines have `<think>` where ours has
    `<think>\\n`, and that difference must not end up in the middle of a sequence. A completion that begins inside its
    thought goes on from the prefix as it is.

    begun: see `redi_ray.text.templates.begun`; null is the forced prefix.
    """
    begun = settings.prefix if begun is None else begun
    if not settings.prefix and begun:
        return _behind_template(completion, begun)
    if not begun or opening_tag(begun):
        completion = opened_once(completion, begun)
    prefix = begun.strip()
    if not prefix:
        return completion
    body = completion.lstrip()
    if not body.startswith(prefix):
        return None
    body = body[len(prefix) :]
    trailing = begun[len(begun.rstrip()) :]
    return body.removeprefix(trailing) if trailing else body


def _behind_template(completion: str, begun: str) -> str | None:
    """What of a completion follows a thought that the template, and no prefix, has opened or closed; None if it would think
    behind a closed one."""
    thought = last_thought(begun)
    assert thought is not None, begun
    opening = thought.opening
    if not thought.open:
        answer = without_empty_thought(completion)
        return answer if last_thought(answer) is None else None
    if begins_inside(completion, opening):
        return completion
    body = opened_once(completion, begun).lstrip()
    if not body.startswith(opening):
        return completion
    return body[len(opening) :].removeprefix(begun[len(opening) :])
