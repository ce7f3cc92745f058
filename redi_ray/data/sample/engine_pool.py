"""Engine processes of a run, kept warm from one stage to the next.

A stage leases engines for one model. What was leased before comes back with vLLM imported and its GPUs held, so that another
model costs its weights and no process. An idle process goes when something else needs its room, or, on a GPU, when it has been
idle for as long as its start took: nothing is then paid twice over.
"""

from __future__ import annotations

import gc
import math
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from redi_ray.cluster.capacity import (
    SMALL_TASKS_CPUS,
    Demand,
    alive_nodes,
    demand,
    free_resources,
    nodes_to_come,
    packs,
)
from redi_ray.cluster.notices import listen
from redi_ray.config.resources import EngineSettings
from redi_ray.data.sample.engine_actor import EngineActor
from redi_ray.data.sample.engines import actor_options, expected_sequences

AROUND = demand("work around engines", [{"CPU": SMALL_TASKS_CPUS}, {"CPU": 1.0}], {})
"""Small tasks, and a verifier, which a pool of engines that grows must leave room for."""
LAG_SECONDS = 3.0
"""How late Ray's count of free resources may be."""
REST_SECONDS = 30.0
"""An engine that takes longer to give up its work is ended."""


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

    def end(self) -> None:
        """Kill it, unless its Ray is gone already."""
        import ray

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

    Of a pool of [min, max] there are as many as the rows can fill and as find room, also on nodes that may come, beside what
    hands them their work; those without room yet come up when there is some.
    """
    import ray

    listen()
    low, high = settings.pool
    filled = high if rows is None else math.ceil(rows / expected_sequences(settings))
    wanted = min(high, max(low, filled))
    if wanted > low:
        idle = min(wanted, _count_idle(settings))
        wanted = max(low, idle + _room_for(wanted - idle, [AROUND], _demand(settings)))
    processes, number = list[Process](), next(_leases)
    try:
        for _ in range(wanted):
            processes.append(_take(settings))
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
    """End idle engines, if these demands, all at a time, find no room as long as they are there. They serve those of engines."""
    with _guard:
        kinds = Counter(process.kind for process in _idle)
    if not kinds:
        return
    if not _fits(list(not_served(demands, kinds))):
        end_idle()


def not_served(demands: Iterable[Demand], idle: Mapping[str, int]) -> Iterator[Demand]:
    """What of the demands is left when idle engines, so many of each kind, have taken theirs."""
    left = Counter(idle)
    for wanted in demands:
        if wanted.engine is None:
            yield wanted
            continue
        each, kind = len(wanted.engine.pieces), _kind(wanted.engine)
        served = min(left[kind], len(wanted.pieces) // each)
        left[kind] -= served
        yield replace(wanted, pieces=wanted.pieces[served * each :])


def _fits(demands: Sequence[Demand]) -> bool:
    """Whether all of it fits on what is free, or on nodes that may come; Ray's count of what is free may come late."""
    if packs(_free(), demands):
        return True
    gc.collect()  # workers of a dataset that ended early hold their CPUs as long as a cycle of references holds the dataset
    deadline = time.monotonic() + LAG_SECONDS
    while not (found := packs(_free(), demands)) and time.monotonic() < deadline:
        time.sleep(LAG_SECONDS / 10)
    return found


def _room_for(most: int, beside: Sequence[Demand], one: Demand) -> int:
    """How many times, up to `most`, there is room for one beside the others."""
    if most <= 0 or _fits([*beside, *[one] * most]):
        return max(most, 0)
    free = _free()
    return next((count for count in range(most - 1, 0, -1) if packs(free, [*beside, *[one] * count])), 0)


def _free() -> list[dict[str, Any]]:
    """The nodes with what is free on each now, and those that may come."""
    nodes, free = alive_nodes(), free_resources({})
    there = [{**node, "Resources": free[node["NodeID"]]} for node in nodes if node["NodeID"] in free]
    return [*there, *nodes_to_come(nodes)]


def end_idle() -> None:
    """End every idle engine."""
    with _guard:
        ended, _idle[:] = list(_idle), []
    for process in ended:
        process.end()


def _take(settings: EngineSettings) -> Process:
    """An idle process of this kind, or a new one."""
    import ray

    kind, session = _kind(settings), ray.get_runtime_context().get_node_id()
    with _guard:
        _idle[:] = [process for process in _idle if process.session == session]
        found = next((process for process in _idle if process.kind == kind), None)
        if found is not None:
            _idle.remove(found)
    if found is not None and _has_rested(found):
        return found
    make_room([_demand(settings)])
    return _start(settings, kind, session)


def _count_idle(settings: EngineSettings) -> int:
    """How many processes there are to take."""
    with _guard:
        return sum(process.kind == _kind(settings) for process in _idle)


def _has_rested(process: Process) -> bool:
    """Whether it has given up what it did before; if not, it is ended."""
    import ray

    try:
        if process.resting is None or ray.get(process.resting, timeout=REST_SECONDS) is not None:
            return True
    except Exception:  # it is dead, or stuck
        pass
    process.end()
    return False


def _start(settings: EngineSettings, kind: str, session: str) -> Process:
    import ray

    options, group = actor_options(settings), None
    if settings.spreads:
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
    import ray

    resting = process.resting
    with suppress(Exception):  # a dead one is found by who takes it
        time.sleep(ray.get(resting) or 0.0)
        with _guard:
            if process not in _idle or process.resting is not resting:  # it has been leased again
                return
            _idle.remove(process)
        process.end()


def _demand(settings: EngineSettings) -> Demand:
    """Of one engine."""
    return demand("an engine", settings.pieces, settings.label_selector)


def _kind(settings: EngineSettings) -> str:
    return repr((actor_options(settings), settings.pieces, settings.max_restarts))
