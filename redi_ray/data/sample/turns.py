"""A trace that is being drawn turn by turn: what any sampler that has tools does between two turns. Pure."""

from __future__ import annotations

from typing import Any

from redi_ray.config.tools import ToolSettings
from redi_ray.data.sample.samples import Sampling
from redi_ray.text.templates import ASSISTANT, TOOL, Message
from redi_ray.text.tool_calls import Call, first_call


class Drawn:
    """The turns so far, and what they have cost."""

    def __init__(self, sampling: Sampling, tools: ToolSettings, prefix: str) -> None:
        """prefix: the forced one, with which every turn of the model's begins."""
        self.sampling, self.tools, self.prefix = sampling, tools, prefix
        self.turns: list[Message] = []
        self.finish: str | None = None
        self.tokens = self.prompt_tokens = 0
        self.counted = True
        """Whether whoever drew the turns has counted their tokens."""

    @property
    def own(self) -> int:
        """The model's own turns so far."""
        return sum(turn["role"] == ASSISTANT for turn in self.turns)

    @property
    def tokens_left(self) -> int:
        """Tokens that the next turn may have."""
        left = self.sampling.max_tokens - self.tokens
        return left if self.tools.max_turn_tokens is None else min(left, self.tools.max_turn_tokens)

    def add_turn(
        self,
        text: str,
        stopped: str | None,
        reason: str | None,
        tokens: int | None,
        prompt_tokens: int | None,
        begin: int = 0,
    ) -> Call | None:
        """Take up a turn of the model's; its call, if a tool is to answer it, or None where the trace has ended.

        text: behind the prefix. stopped: the text at which the model was stopped, if one was, which follows `text`. reason: as
        FINISH_REASONS. prompt_tokens: that it saw. Counts are null where nobody counts. begin: no character before calls.
        """
        self.counted = self.counted and tokens is not None and prompt_tokens is not None
        self.tokens, self.prompt_tokens = self.tokens + (tokens or 0), self.prompt_tokens + (prompt_tokens or 0)
        self.finish = reason
        call = first_call(text + (stopped or ""), self.tools.calls, begin)
        final = self.tools.final is not None and self.tools.final in text
        if (
            call is not None
        ):  # what follows a call was written without its output; where it ends the trace, it is the answer
            text = (text + (stopped or ""))[: max(call.end, len(text)) if final else call.end]
        self.turns.append({"role": ASSISTANT, "content": self.prefix + text})
        if call is None or final:
            return None
        self.finish = "stop"
        if self.own >= self.tools.max_turns or self.tokens >= self.sampling.max_tokens:
            self.cut_off()
            return None
        return call

    def add_output(self, text: str) -> None:
        """Take up what a tool gave back."""
        self.turns.append({"role": TOOL, "content": self.tools.output.replace("{output}", text)})

    def cut_off(self) -> None:
        """It ends here, for lack of room."""
        self.finish = "length"

    def completion(self) -> dict[str, Any]:
        """The columns of COMPLETION that the trace fills. A single turn is a completion like any other."""
        last = next(turn for turn in reversed(self.turns) if turn["role"] == ASSISTANT)
        return {
            "completion": last["content"],
            "turns": self.turns if len(self.turns) > 1 else None,
            "finish_reason": self.finish,
            "num_tokens": self.tokens if self.counted else None,
            "prompt_tokens": self.prompt_tokens if self.counted else None,
        }
