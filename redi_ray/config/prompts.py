"""Settings of prompts, shared by generation, training and evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from redi_ray.config.objectives import STRICT, require


@dataclass(frozen=True, kw_only=True)
class PromptSettings:
    """How a problem becomes a prompt."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    template: str = "{problem}"
    """The user message; `{problem}` is replaced by the problem's text."""
    system: str | None = None
    """System message, if any. Null leaves it to the chat template, which may have a default."""
    prefix: str = "<think>\n"
    """Forced start of every completion (part of the prompt, never scored). Empty for models that do not think aloud."""

    def __post_init__(self) -> None:
        require("{problem}" in self.template, "template must contain {problem}")
