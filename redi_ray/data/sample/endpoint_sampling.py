"""Sampling from an OpenAI-compatible endpoint: the other sampler beside `redi_ray.data.sample.sampling`.

One actor does all the asking, so that the pace, the pauses a server asks for and the count of failures in a row hold for
the stage as a whole; it waits for the network, not for the CPU.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pyarrow as pa
from pydantic import SecretStr

from redi_ray.config.endpoints import EndpointSettings
from redi_ray.config.prompts import PromptSettings
from redi_ray.data.sample.endpoint import ChatClient
from redi_ray.data.sample.endpoint_check import check_endpoint, endpoint_key
from redi_ray.data.sample.endpoint_turns import draw_turns
from redi_ray.data.sample.endpoint_wire import Answer, Parameters, Refusal
from redi_ray.data.sample.samples import COMPLETION, Sampler, Sampling, sample_seed
from redi_ray.data.sample.tool_check import check_tools
from redi_ray.text.loops import text_loop
from redi_ray.text.prompts import fold_reasoning, to_messages
from redi_ray.tools.sandbox import Sandbox

REQUESTS_PER_TASK = 16
"""Rows of one Ray task, and what is asked again should the actor die."""
TRANSIENT = frozenset({"rate_limited", "server_error", "timeout", "connection", "broken_off"})
"""Failures that are not the request's: worth another pass once all the others have been answered."""


def endpoint_sampler(
    field: str,
    settings: EndpointSettings,
    sampling: Sampling,
    prompt: PromptSettings,
    *,
    force_prefix: bool = False,
) -> Sampler:
    """A sampler that asks a server. field: where the settings stand in the config, for messages.

    The returned function raises EndpointError if nothing answers there or access is refused, and so does the dataset it
    gives, while it is computed, once every further request would fail.
    """
    import ray.data

    def sample(requests: ray.data.Dataset) -> ray.data.Dataset:
        if sampling.tools is not None:
            check_tools(sampling.tools, prompt, None)
        key = endpoint_key(field, settings)
        check_endpoint(settings, key)
        tasks = math.ceil(2 * settings.max_in_flight / REQUESTS_PER_TASK) + 1  # twice what is in flight: no task waits
        blocks = requests.repartition(target_num_rows_per_block=REQUESTS_PER_TASK, strict=True)
        return blocks.map_batches(
            _Ask,
            fn_constructor_args=(settings, key, sampling, prompt, force_prefix),
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(
                size=1, max_tasks_in_flight_per_actor=tasks, max_concurrent_calls_per_actor=tasks
            ),
            num_cpus=0.5,
        )

    return sample


class _Ask:
    """REQUEST rows in, COMPLETION rows out, one request each."""

    def __init__(
        self,
        settings: EndpointSettings,
        key: SecretStr | None,
        sampling: Sampling,
        prompt: PromptSettings,
        force_prefix: bool,
    ) -> None:
        self.client = ChatClient(settings, key)
        self.sampling, self.prompt = sampling, prompt
        prefix = prompt.prefix if force_prefix else ""
        self.parameters = Parameters(sampling.temperature, sampling.top_p, sampling.max_tokens, prefix)
        self.sandbox: Sandbox | None = None

    async def __call__(self, requests: pa.Table) -> pa.Table:
        rows = requests.to_pylist()
        if self.sampling.tools is not None and self.sandbox is None:
            self.sandbox = Sandbox(self.sampling.tools.sandbox).start()
        return pa.Table.from_pylist(await asyncio.gather(*(self._draw(row) for row in rows)), schema=COMPLETION)

    async def _draw(self, row: dict[str, Any]) -> dict[str, Any]:
        seed = sample_seed(self.sampling.seed, row["problem_id"], row["sample_index"])
        outcome: Answer | Refusal | dict[str, Any]
        if self.sandbox is None:
            outcome = await self.client.ask(to_messages(row["problem"], self.prompt), self.parameters, seed)
        else:
            outcome = await draw_turns(
                row, self.client, self.parameters, seed, self.sandbox, self.sampling, self.prompt, self._read
            )
        if isinstance(outcome, Refusal):
            retry = outcome.reason in TRANSIENT
            return {**row, "failure": outcome.reason, "detail": outcome.detail, "retry": retry}
        return {**row, **(self._read(outcome) if isinstance(outcome, Answer) else outcome)}

    def _read(self, answer: Answer) -> dict[str, Any]:
        return to_completion(answer, self.parameters.prefix, self.prompt, self.sampling)


def to_completion(answer: Answer, forced: str, prompt: PromptSettings, sampling: Sampling) -> dict[str, Any]:
    """The columns of COMPLETION that an answer fills."""
    text = fold_reasoning(answer.text, answer.reasoning, prompt)
    if not text.startswith(forced.strip()):
        text = forced + text
    finish = answer.finish_reason
    looping = finish in (None, "length") and text_loop(text, sampling.loops) is not None
    return {
        "completion": text,
        "finish_reason": "loop" if looping else finish,
        "num_tokens": answer.completion_tokens,
        "prompt_tokens": answer.prompt_tokens,
    }
