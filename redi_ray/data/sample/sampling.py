"""Sampling with vLLM: leased engines under Ray Data.

One row is one sample (the engine's own `n` would keep the first output only), with a seed of its own, so what is drawn does not
depend on which others are in flight or on which replica it lands, as far as the engine's numbers do not. On a CPU with one thread
they do not: log-probs are equal to the bit whatever shares a step, in float32 and bfloat16. Prompts go in as token ids, the very
ids that training uses. An engine whose process dies is started again by Ray and asked the same requests again, which have their
seeds, so that the same texts come out.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from redi_ray.config.prompts import PromptSettings
from redi_ray.config.resources import EngineSettings
from redi_ray.data.sample.engine_actor import Order
from redi_ray.data.sample.engine_pool import lease
from redi_ray.data.sample.engines import expected_sequences
from redi_ray.data.sample.samples import TASK_CPUS, Sampler, Sampling, SamplingError
from redi_ray.data.sample.tool_check import check_tools


@contextmanager
def vllm_sampler(
    model: str, engine: EngineSettings, sampling: Sampling, prompt: PromptSettings, rows: int | None = None
) -> Iterator[Sampler]:
    """A sampler with engines of its own, for the block.

    model: a local Hugging Face folder that every node sees, s3://, or a hub name. rows: how many there are at most, if known.
    Raises a UserError where the sampling has tools and they, or the model's chat template, do not work. The dataset that it gives
    raises, while it is computed, EngineError where vLLM does not start on the model, and SamplingError once no engine can be
    started again.
    """
    import ray.data

    if sampling.tools is not None:
        check_tools(sampling.tools, prompt, model, engine.trusts_code)
    with lease(engine, rows) as (number, engines):
        order = Order(number, model, engine, sampling, prompt)
        for actor in engines:
            actor.prepare.remote(order)  # while Ray Data gets ready
        in_flight = len(engines) * engine.batches_in_flight(expected_sequences(engine)) + 1

        def sample(requests: ray.data.Dataset) -> ray.data.Dataset:
            blocks = requests.repartition(target_num_rows_per_block=engine.batch_size, strict=True)
            return blocks.map_batches(
                Dispatch,
                fn_constructor_args=(order, engines),
                batch_size=None,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(
                    size=1, max_tasks_in_flight_per_actor=in_flight, max_concurrent_calls_per_actor=in_flight
                ),
                num_cpus=TASK_CPUS,
            )

        yield sample


class Dispatch:
    """REQUEST rows in, COMPLETION rows out: each block goes to the engine that has the fewest in flight."""

    def __init__(self, order: Order, engines: Sequence[Any]) -> None:
        self.order, self.coming = order, list(engines)
        self.in_flight: Counter[Any] = Counter()
        """Of the engines that are up."""
        self.changed: asyncio.Condition | None = None

    async def __call__(self, requests: pa.Table) -> pa.Table:
        import ray

        while True:
            engine = await self._next()
            self.in_flight[engine] += 1
            try:
                return await engine.answer.remote(self.order, requests)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except ray.exceptions.RayError as error:  # its process is gone for good, whatever took it
                self._lose(engine, error)
            finally:
                if engine in self.in_flight:
                    self.in_flight[engine] -= 1

    async def _next(self) -> Any:
        """The engine to ask, when one is up."""
        if self.changed is None:
            self.changed = asyncio.Condition()
            self._starts = [asyncio.ensure_future(self._start(engine)) for engine in self.coming]
        async with self.changed:
            await self.changed.wait_for(lambda: self.in_flight or not self.coming)
        if not self.in_flight:
            raise self.last
        return min(self.in_flight, key=lambda engine: self.in_flight[engine])

    async def _start(self, engine: Any) -> None:
        import ray

        assert self.changed is not None
        try:
            await engine.prepare.remote(self.order)
            self.in_flight[engine] = 0
        except ray.exceptions.RayTaskError as error:
            self.last: Exception = error.cause
        except Exception as error:
            self.last = lost(error)
        async with self.changed:
            self.coming.remove(engine)
            self.changed.notify_all()

    def _lose(self, engine: Any, error: Exception) -> None:
        """Go on without it."""
        self.in_flight.pop(engine, None)
        self.last = lost(error)


def lost(error: Exception) -> SamplingError:
    """What to say when an engine has been started again as often as it may be, and it was the last one."""
    return SamplingError(
        "an engine died and could not be started again (max_restarts in resources.engine says how often). Finished shards "
        f"are kept, so the same command goes on. Ray says: {error}"
    )
