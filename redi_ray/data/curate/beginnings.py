"""Traces that do not go on from what the prompt ends in: found before anything is spent on them, and told in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from redi_ray.config.prompts import PromptSettings
from redi_ray.data.sources.readers import DataError
from redi_ray.schemas import CUT_OFF
from redi_ray.store import parquet
from redi_ray.text.prompts import strip_prefix
from redi_ray.text.templates import turn
from redi_ray.text.thoughts import Thought, closing_of
from redi_ray.text.tokens import body_of

MOST = 0.9
"""Share of the chosen traces that are without the prefix from which on a run is refused: what is left is no data set."""
SHOWN = 40
"""Characters of a trace in a message."""


def check_beginnings(shards: list[str], prompt: PromptSettings) -> None:
    """Raise DataError if not one of the traces begins with the forced prefix. Reads until the first that does."""
    seen, example = 0, ""
    for text, _ in _completions(shards):
        if strip_prefix(text, prompt) is not None:
            return
        seen, example = seen + 1, example or text
    if seen:
        raise DataError(complaint(seen, seen, "traces", prompt, example))


def check_thoughts(shards: list[str], tokenizer: Any, prompt: PromptSettings) -> None:
    """Raise DataError if, without a forced prefix, the chat template opens a thought that not one finished trace closes, or
    closes one and every trace thinks. Reads until the first that fits."""
    thought = turn(tokenizer, prompt).thought
    if prompt.prefix or thought is None:
        return
    seen, example = 0, ""
    for text, finish_reason in _completions(shards):
        if thought.open and finish_reason in CUT_OFF:
            continue
        if closing_of(thought.opening) in text if thought.open else body_of(text, tokenizer, prompt) is not None:
            return
        seen, example = seen + 1, example or text
    if seen:
        raise DataError(f"{_misfit(thought, seen)} (one begins {example[:SHOWN]!r})")


def _misfit(thought: Thought, traces: int) -> str:
    if thought.open:
        return (
            f"the model's chat template opens {thought.opening!r} before the answer, and none of {traces} finished traces closes "
            "it, so they would be learnt as thoughts without an end. Have it open none by model.prompt.template_args, such as "
            "{enable_thinking: false}, or take a model whose template opens none"
        )
    return (
        f"the model's chat template closes a thought before the answer ({thought.written!r}), and all {traces} traces think. "
        "Have it leave that to them by model.prompt.template_args, such as {enable_thinking: true} or {thinking: true}"
    )


def _completions(shards: list[str]) -> Iterator[tuple[str, str | None]]:
    """(completion, finish reason) of every trace."""
    for shard in shards:
        for batch in parquet.read_batches(shard, ["completion", "finish_reason"]):
            yield from zip(batch["completion"].to_pylist(), batch["finish_reason"].to_pylist(), strict=True)


def complaint(without: int, of: int, what: str, prompt: PromptSettings, example: str | None) -> str:
    """What to say of traces without the prefix, and how to mend it."""
    shown = f" (one begins {example[:SHOWN]!r})" if example else ""
    return (
        f"{without} of {of} {what} do not begin with the forced prefix {prompt.prefix!r}{shown}, and training needs it at the "
        "start of every one. Set model.prompt.prefix to what they begin with; for traces that do not think aloud that is "
        "nothing, on the command line 'model.prompt.prefix=\"\"'"
    )
