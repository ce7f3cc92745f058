"""A process with an engine, as a Ray actor: what stages ask, through the pool that keeps it warm."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import pyarrow as pa

from redi_ray.cluster.notices import tell
from redi_ray.cluster.runtime import quiet_libraries
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.resources import EngineSettings
from redi_ray.data.sample.engine import Engine, EngineDied
from redi_ray.data.sample.samples import Sampling
from redi_ray.errors import UserError
from redi_ray.modeling.tokenizer import import_for_threads, load_tokenizer
from redi_ray.text.prompts import to_messages
from redi_ray.text.tokens import prompt_ids

PARITY_PROMPTS = 4
"""Requests whose prompts check reloaded weights."""


class EngineError(UserError):
    """vLLM does not start on a model; the message says which, and what vLLM said."""


@dataclass(frozen=True)
class Order:
    """What the engines of one lease do. A later lease has a greater number, and what an earlier one still asks is refused."""

    lease: int
    model: str
    settings: EngineSettings
    sampling: Sampling
    prompt: PromptSettings


class EngineActor:
    """A process with an engine. Each call brings the order, so that a process that Ray has started anew can repeat it."""

    def __init__(self, device: str) -> None:
        began = time.monotonic()
        quiet_libraries()
        import_for_threads()
        import_vllm(device)
        self.engine, self.turn, self.lease = Engine(), asyncio.Lock(), 0
        self.start_seconds, self.model_seconds = time.monotonic() - began, 0.0

    async def is_up(self) -> bool:
        return True

    async def prepare(self, order: Order) -> None:
        """Have the model before the first request; where weights may be reloaded, that waits for prompts to check them."""
        async with self.turn:
            if self.engine.held is None:
                await self._use(order, [])

    async def answer(self, order: Order, requests: pa.Table) -> pa.Table:
        """REQUEST rows -> COMPLETION rows."""
        try:
            async with self.turn:
                await self._use(order, requests["problem"].slice(0, PARITY_PROMPTS).to_pylist())
                answers = self.engine.submit(requests, order.sampling, order.prompt)
            return await asyncio.wrap_future(answers)
        except EngineDied as error:
            tell(f"an engine ends, and its requests are asked again: {error}")
            await asyncio.sleep(0.5)  # or nobody would read that
            os._exit(1)  # Ray starts another process, which repeats this call

    async def rest(self, lease: int, keep: bool) -> float | None:
        """The lease has ended. keep: whether the model may stay. Gives the seconds that a start takes; None where Ray has
        started the process again meanwhile, so that the next lease would have fewer restarts."""
        import ray

        async with self.turn:
            self.lease = lease + 1
            await asyncio.wrap_future(self.engine.abort() if keep else self.engine.close())
        again = ray.get_runtime_context().was_current_actor_reconstructed
        return None if again else self.start_seconds + self.model_seconds

    async def _use(self, order: Order, problems: Sequence[str]) -> None:
        if order.lease < self.lease:
            raise RuntimeError(f"lease {order.lease} has ended")
        self.lease = order.lease
        if self.engine.holds(order.model, order.settings):
            return
        try:
            tokenizer = load_tokenizer(order.model, order.settings.trusts_code) if problems else None
            asked = [prompt_ids(to_messages(text, order.prompt), tokenizer, order.prompt) for text in problems]
            swap = await asyncio.wrap_future(self.engine.use(order.model, order.settings, asked))
        except UserError:
            raise
        except Exception as error:
            raise EngineError(f"vLLM does not start on {order.model}: {type(error).__name__}: {error}") from error
        self.model_seconds = max(self.model_seconds, swap.seconds)


def import_vllm(device: str) -> None:
    """What a start spends most of its time on, and what needs no model. vLLM imports lazily: its name alone loads little."""
    from vllm import LLM, SamplingParams  # noqa: F401

    if device == "cpu":
        with suppress(ImportError):  # it may move; it is then imported when the first model comes
            import vllm.v1.worker.cpu_worker  # noqa: F401
