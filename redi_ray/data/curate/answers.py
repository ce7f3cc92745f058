"""Completions as they are trained on: mended, measured in the student's tokens, refused where they do not fit the prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redi_ray.config.prompts import PromptSettings
from redi_ray.schemas import CUT_OFF
from redi_ray.text.templates import without_ending
from redi_ray.text.thoughts import opened_once, opening_tag
from redi_ray.text.tokens import body_of, completion_ids

WITHOUT_PREFIX = "without_prefix"


def is_finished(trace: Mapping[str, Any]) -> bool:
    """Whether a trace came to its own end; one of which that is not known counts as such."""
    return trace["finish_reason"] not in CUT_OFF


@dataclass(frozen=True)
class Answers:
    """Of one student."""

    tokenizer: Any
    prompt: PromptSettings

    def message(self, completion: str) -> dict[str, str]:
        """A completion as a message: its thought opened once, without the text of an end-of-turn token."""
        text = without_ending(completion, self.tokenizer)
        opens = opening_tag(self.prompt.prefix) is not None
        return {"role": "assistant", "content": opened_once(text, self.prompt.prefix) if opens else text}

    def misfit(self, completion: str) -> str | None:
        """Why a completion does not go on from the prompt, or None."""
        if body_of(completion, self.tokenizer, self.prompt) is not None:
            return None
        return WITHOUT_PREFIX if self.prompt.prefix else "thinks_again"

    def moved(self, span: Mapping[str, Any], before: str, after: str) -> tuple[int, int] | None:
        """Where a span of a completion lies in its message: the beginning may have been mended, the end taken away. None if
        nothing is left of it."""
        shift = 0 if before == after else len(after) - len(without_ending(before, self.tokenizer))
        start, end = max(0, span["start"] + shift), min(len(after), span["end"] + shift)
        return (start, end) if start < end else None

    def count_tokens(self, completion: str, *, finished: bool) -> int:
        """Tokens of one that fits, the end of its turn among them where it is finished."""
        return len(completion_ids(completion, self.tokenizer, self.prompt, finished=finished))
