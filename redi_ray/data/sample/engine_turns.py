"""Requests whose answers have turns: the model's turn ends with a call, a tool answers, and the engine is asked to go on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from redi_ray.config.prompts import PromptSettings
from redi_ray.data.sample.engine_block import Block, finish_reason
from redi_ray.data.sample.engine_start import Held
from redi_ray.data.sample.engines import sampling_params
from redi_ray.data.sample.samples import Sampling, turn_seed
from redi_ray.data.sample.turns import Drawn
from redi_ray.text.prompts import to_messages
from redi_ray.text.templates import PromptError
from redi_ray.text.tool_calls import stops
from redi_ray.text.turns import opened_ids
from redi_ray.tools.sandbox import Sandbox, ToolOutput

_TOKENISING = threading.Lock()
"""A tokenizer serves one thread at a time, and tools' outputs come on threads of their own."""


class TurnBlock(Block):
    """Requests that are answered together, each in as many turns as it takes."""

    later: Callable[[Callable[[], None]], Any]
    """Has the engine's thread call something between two steps."""
    ask: Callable[[int, list[int], Any], None]
    """Asks the engine for one more turn, on its thread: the request's place, what it sees, vLLM's sampling parameters."""

    def __init__(
        self,
        rows: list[dict[str, Any]],
        held: Held,
        sampling: Sampling,
        prompt: PromptSettings,
        sandbox: Sandbox,
        room: int,
    ) -> None:
        """room: tokens that the model reads and writes at the most."""
        super().__init__(rows, held, sampling, prompt)
        assert sampling.tools is not None
        self.tools, self.sandbox, self.room = sampling.tools, sandbox, room
        self.stops = stops(self.tools.calls)
        self.drawn = [Drawn(sampling, self.tools, prompt.prefix) for _ in rows]

    def asked(self) -> list[tuple[list[int], Any]]:
        with _TOKENISING:
            return [(self._seen(place), self._parameters(place)) for place in range(len(self.rows))]

    def _seen(self, place: int) -> list[int]:
        messages = to_messages(self.rows[place]["problem"], self.prompt)
        return opened_ids(messages, self.drawn[place].turns, self._tokenizer, self.prompt)

    def _parameters(self, place: int) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        told, drawn = sampling_params(self.rows[place], self.sampling, self._ends), self.drawn[place]
        told |= {"seed": turn_seed(told["seed"], drawn.own), "max_tokens": drawn.tokens_left}
        return SamplingParams(**told, stop=self.stops, output_kind=RequestOutputKind.FINAL_ONLY)

    def answer(self, place: int, output: Any) -> None:
        """Take up vLLM's final output of one turn, and have its call run if it has one."""
        said, drawn = output.outputs[0], self.drawn[place]
        tokens = list(said.token_ids)
        stopped = said.stop_reason if isinstance(said.stop_reason, str) and said.finish_reason == "stop" else None
        reason = "stop" if stopped else finish_reason(tokens, self._ends, self.sampling.loops)
        call = drawn.add_turn(said.text, stopped, reason, len(tokens), len(output.prompt_token_ids))
        if call is None:
            self._take(place, drawn.completion())
        else:
            self.sandbox.submit(call.tool, call.text).add_done_callback(partial(self._answered, place))

    def _answered(self, place: int, output: Future[ToolOutput]) -> None:
        """On a thread of the sandbox's."""
        if self.future.done() or output.cancelled():
            return
        try:
            drawn = self.drawn[place]
            drawn.add_output(output.result().text)
            with _TOKENISING:
                ids = self._seen(place)
            if len(ids) >= self.room:
                drawn.cut_off()
                self.later(partial(self._take, place, drawn.completion()))
            else:
                self.later(partial(self.ask, place, ids, self._parameters(place)))
        except (ValueError, PromptError) as error:  # the template does not take what was said
            self.later(partial(self.refuse, place, error, "turns_not_encodable"))
        except BaseException as error:  # a callback that raises is not heard
            self.fail(error)
