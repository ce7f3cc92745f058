"""Engine processes of a run, kept warm from one stage to the next.

A stage leases engines for one model. What was leased before comes back with vLLM imported and its GPUs held, so that another
model costs its weights and no process. An idle process goes when something else needs its room, or, on a GPU, when it has been
idle for as long as its start took: nothing is then paid twice over.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from typing import Any

import pyarrow as pa
import ray

from redi_ray.cluster.capacity import Demand, alive_nodes, demand, packs
from redi_ray.cluster.notices import listen, tell
from redi_ray.cluster.runtime import quiet_libraries
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.resources import EngineSettings
from redi_ray.data.sample.engine import Engine, EngineDied
from redi_ray.data.sample.engines import actor_options, expected_sequences, spreads
from redi_ray.data.sample.samples import Sampling
from redi_ray.errors import UserError
from redi_ray.modeling.tokenizer import import_for_threads, load_tokenizer
from redi_ray.text.prompts import to_messages
from redi_ray.text.tokens import prompt_ids

PARITY_PROMPTS = 4
"""Requests whose prompts check reloaded weights."""
REST_SECONDS = 30.0
"""An engine that takes longer to give up its work is ended."""


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
        async with self.turn:
            await self._use(order, requests["problem"].slice(0, PARITY_PROMPTS).to_pylist())
            answers = self.engine.submit(requests, order.sampling, order.prompt)
        try:
            return await asyncio.wrap_future(answers)
        except EngineDied as error:
            tell(f"an engine ends, and its requests are asked again: {error}")
            await asyncio.sleep(0.5)  # or nobody would read that
            os._exit(1)  # Ray starts another process, which repeats this call

    async def rest(self, lease: int, keep: bool) -> float:
        """The lease has ended. keep: whether the model may stay. The seconds that a start takes."""
        async with self.turn:
            self.lease = lease + 1
            await asyncio.wrap_future(self.engine.abort() if keep else self.engine.close())
        return self.start_seconds + self.model_seconds

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
        except Exception as error:
            raise EngineError(f"vLLM does not start on {order.model}: {type(error).__name__}: {error}") from error
        self.model_seconds = max(self.model_seconds, swap.seconds)


def import_vllm(device: str) -> None:
    """What a start spends most of its time on, and what needs no model. vLLM imports lazily: its name alone loads little."""
    from vllm import LLM, SamplingParams  # noqa: F401

    if device == "cpu":
        with suppress(ImportError):  # it may move; it is then imported when the first model comes
            import vllm.v1.worker.cpu_worker  # noqa: F401


@dataclass(eq=False)
class Process:
    """An engine's process, as the driver knows it."""

    actor: Any
    up: Any
    """Ray's reference to what it says once it is up."""
    kind: str
    """Processes of equal kind can take each other's place."""
    settings: EngineSettings
    session: str
    """Of Ray."""
    group: Any = None
    """The placement group, where vLLM spreads itself over one."""
    resting: Any = None
    """Ray's reference to the end of what its last lease had it do; it gives the seconds that a start takes."""

    @property
    def demand(self) -> Demand:
        """What it holds."""
        pieces = self.settings.bundles if spreads(self.settings) else [self.settings.demand]
        return demand("an engine", pieces, self.settings.label_selector)

    def end(self) -> None:
        """Kill it, unless its Ray is gone already."""
        with suppress(Exception):
            ray.kill(self.actor)
            if self.group is not None:
                ray.util.remove_placement_group(self.group)


_idle: list[Process] = []
_guard = threading.Lock()
_leases = count(1)


@contextmanager
def lease(settings: EngineSettings, rows: int | None = None) -> Iterator[tuple[int, list[Any]]]:
    """The lease's number and its engines' actors, for the block alone. rows: how many there are to sample, if that is known.

    Of a pool of [min, max] there are as many as the rows can fill. Those without room yet come up when there is some.
    """
    listen()
    low, high = settings.pool
    filled = high if rows is None else math.ceil(rows / expected_sequences(settings))
    processes = [_take(settings) for _ in range(min(high, max(low, filled)))]
    number = next(_leases)
    try:
        yield number, [process.actor for process in processes]
    except BaseException:
        for process in processes:
            process.end()
        raise
    came_up, _ = ray.wait([process.up for process in processes], num_returns=len(processes), timeout=0)
    for process in processes:
        if process.up in came_up:
            process.resting = process.actor.rest.remote(number, settings.device != "cpu")
            _keep(process)
        else:  # there was no room for it
            process.end()


def start_one(settings: EngineSettings) -> None:
    """Begin to start a process that the first lease will find, unless one is there."""
    listen()
    process = _take(settings)
    with _guard:
        _idle.append(process)


def make_room(demands: Iterable[Demand]) -> None:
    """End idle engines, if these demands, all at a time, would not find room beside them. They serve those of engines."""
    with _guard:
        beside, ended = [process.demand for process in _idle], list[Process]()
        unserved = [piece for held in beside for piece in held.pieces]
        for wanted in demands:
            served = wanted.engine is not None and all(piece in unserved for piece in wanted.pieces)
            beside += [] if served else [wanted]
        if _idle and not packs(alive_nodes(), beside):
            ended, _idle[:] = list(_idle), []
    for process in ended:
        process.end()


def end_idle() -> None:
    """End every idle engine."""
    with _guard:
        ended, _idle[:] = list(_idle), []
    for process in ended:
        process.end()


def _take(settings: EngineSettings) -> Process:
    """An idle process of this kind, or a new one."""
    kind, session = _kind(settings), ray.get_runtime_context().get_node_id()
    with _guard:
        _idle[:] = [process for process in _idle if process.session == session]
        found = next((process for process in _idle if process.kind == kind), None)
        if found is not None:
            _idle.remove(found)
    if found is not None and _has_rested(found):
        return found
    process = _start(settings, kind, session)
    make_room([process.demand])
    return process


def _has_rested(process: Process) -> bool:
    """Whether it has given up what it did before; if not, it is ended."""
    try:
        if process.resting is not None:
            ray.get(process.resting, timeout=REST_SECONDS)
    except Exception:  # it is dead, or stuck
        process.end()
        return False
    return True


def _start(settings: EngineSettings, kind: str, session: str) -> Process:
    options, group = actor_options(settings), None
    if spreads(settings):
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        group = ray.util.placement_group(settings.bundles)
        where = PlacementGroupSchedulingStrategy(group, placement_group_capture_child_tasks=True)
        options |= {"num_cpus": 0, "num_gpus": 0, "scheduling_strategy": where}
    actor = ray.remote(EngineActor).options(
        max_restarts=settings.max_restarts, max_task_retries=-1, max_concurrency=1000, **options
    )
    started: Any = actor.remote(settings.device)
    return Process(started, started.is_up.remote(), kind, settings, session, group)


def _keep(process: Process) -> None:
    """For the next lease; one that holds a GPU until its start is earned back."""
    with _guard:
        _idle.append(process)
    if process.settings.device != "cpu":
        threading.Thread(target=_end_in_time, args=[process], daemon=True).start()


def _end_in_time(process: Process) -> None:
    resting = process.resting
    with suppress(Exception):  # a dead one is found by who takes it
        time.sleep(ray.get(resting))
        with _guard:
            if process not in _idle or process.resting is not resting:  # it has been leased again
                return
            _idle.remove(process)
        process.end()


def _kind(settings: EngineSettings) -> str:
    return repr((actor_options(settings), spreads(settings) and settings.bundles, settings.max_restarts))
