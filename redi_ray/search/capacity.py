"""How many trials run at a time: told before they start, so that none waits for what will never come."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redi_ray.config.resources import EngineSettings, TrainerSettings
from redi_ray.runtime import CapacityError

DRIVER_CPUS = 0.1
"""Logical CPUs of the process that leads a trial: it only waits."""
TASK_CPUS = 1.0
"""Kept free for the small tasks of the stages before the training."""

Resources = Mapping[str, float]


@dataclass(frozen=True)
class Needs:
    """What trials ask for."""

    workers: int
    """Per trial."""
    worker: Resources
    """Of each worker; it must fit on one node."""
    engine: Resources
    """Of the evaluator's engine; empty if there is none."""
    evaluation_cpus: float = 0.0
    """Of verification beside the engine."""

    def __str__(self) -> str:
        each = " + ".join(f"{amount:g} {name}" for name, amount in self.worker.items())
        engine = " + ".join(f"{amount:g} {name}" for name, amount in self.engine.items())
        return f"{self.workers} worker(s) of {each} per trial" + (f", and an engine of {engine}" if engine else "")


def needs_of(trainer: TrainerSettings, engine: EngineSettings | None, verify_workers: int) -> Needs:
    """engine: null where trials are not scored by one."""
    worker = {"CPU": trainer.cpus_per_worker} | ({"GPU": 1.0} if trainer.use_gpu else {})
    if engine is None:
        return Needs(trainer.num_workers, worker, {})
    own = {"CPU": 1.0} | ({"GPU": float(engine.tensor_parallel_size)} if engine.device == "gpu" else {})
    return Needs(trainer.num_workers, worker, own, verify_workers)


def trials_at_a_time(nodes: Sequence[Resources], needs: Needs) -> int:
    """How many trials fit on the nodes at once; 0 if not even one does."""
    rooms = [dict(node) for node in nodes]
    if needs.engine and not _take(rooms, needs.engine):
        return 0
    slots = sum(_how_often(room, needs.worker) for room in rooms)
    cpus, each = sum(room.get("CPU", 0.0) for room in rooms), DRIVER_CPUS + needs.workers * needs.worker["CPU"]
    beside = TASK_CPUS + needs.evaluation_cpus
    fitting = min(slots // needs.workers, int((cpus - beside) / each + 1e-9))
    return max(fitting, int(slots >= needs.workers and cpus >= max(each, needs.evaluation_cpus)))


def _take(rooms: list[dict[str, float]], wanted: Resources) -> bool:
    for room in rooms:
        if _how_often(room, wanted):
            for name, amount in wanted.items():
                room[name] -= amount
            return True
    return False


def _how_often(room: Resources, wanted: Resources) -> int:
    return int(min(room.get(name, 0.0) / amount + 1e-9 for name, amount in wanted.items() if amount))


def plan_concurrency(needs: Needs, at_most: int | None, num_trials: int, *, local: bool) -> tuple[int, str]:
    """Trials at a time on the connected Ray, and a line that says what they ask for.

    Raises CapacityError if the cluster, grown as far as it may, could not run a single one.
    """
    now = [node["Resources"] for node in ray_nodes()]
    later = growth()
    possible = trials_at_a_time(later if later is not None else now, needs)
    if not possible:
        has = "; ".join(describe(node) for node in (later if later is not None else now))
        raise CapacityError(
            f"search: {needs}: the cluster can never hold that, it has {has or 'no nodes'}. Mend: fewer or smaller workers "
            "(search.trainer), or more nodes"
        )
    cores = max(1, int((os.cpu_count() or 1) / (needs.workers * needs.worker["CPU"]))) if local else sys.maxsize
    chosen = min(possible, at_most or cores, num_trials)
    line = f"{num_trials} trials, {chosen} at a time: {needs}"
    if later is not None and trials_at_a_time(now, needs) < chosen:
        line += f"; the cluster holds {trials_at_a_time(now, needs)} now and is asked to grow"
    return chosen, line


def ray_nodes() -> list[dict[str, Any]]:
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def growth() -> list[Resources] | None:
    """The nodes of the cluster at its largest; None if it does not grow.

    What the autoscaler has told the cluster; Ray Train looks there too, and there is no public way.
    """
    from ray._private.state import state

    config = state.get_cluster_config()
    groups = [group for group in config.node_group_configs if group.max_count] if config is not None else []
    if not groups:
        return None
    most = 10_000  # of a group without a bound
    return [dict(g.resources) for g in groups for _ in range(g.max_count if g.max_count > 0 else most)]


def describe(resources: Resources) -> str:
    shown = [f"{amount:g} {name}" for name, amount in resources.items() if name in ("CPU", "GPU")]
    return " + ".join(shown) or "nothing"
