"""Settings of prompts, shared by generation, training and evaluation."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from redi_ray.config.strict import STRICT, require

RENDERING = frozenset(
    {"messages", "conversation", "tokenize", "add_generation_prompt", "strftime_now", "chat_template"}
)
"""Arguments of rendering that are not the template's own."""


THINK, END_THINK = "<think>", "</think>"
"""The tags around a thought, in what is prompted and trained here."""


@dataclass(frozen=True, kw_only=True)
class PromptSettings:
    """How a problem becomes a prompt."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    template: str = "{problem}"
    """The user message; `{problem}` is replaced by the problem's text."""
    system: str | None = None
    """System message, if any. Null leaves it to the chat template, which may have a default."""
    prefix: str = f"{THINK}\n"
    """Forced start of every completion (part of the prompt, never scored). Empty for models that do not think aloud. Where
    the chat template opens the thought itself, it is not opened again."""
    date: str | datetime.date = "2024-07-26"
    """What a chat template that asks for the date is told, so that a prompt is the same on every day. ISO 8601."""
    template_args: dict[str, Any] = field(default_factory=dict)
    """Variables of the chat template, such as `enable_thinking: true`."""
    tool_role: Literal["tool", "user"] = "tool"
    """As what the chat template is told that a tool's output is: its own role, or, where the template has none, a user's."""

    def __post_init__(self) -> None:
        require("{problem}" in self.template, "template must contain {problem}")
        try:
            told = datetime.date.fromisoformat(str(self.date))  # YAML makes a date of what has no quotes
        except ValueError:
            raise ValueError(f"date {self.date!r}: write it as 2024-07-26") from None
        object.__setattr__(self, "date", told.isoformat())
        taken = sorted(RENDERING & set(self.template_args))
        require(not taken, f"template_args: {', '.join(taken)} is not for the config to set")
