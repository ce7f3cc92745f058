"""How many trials run at a time: told before they start, so that none waits for what will never come."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from redi_ray.cluster.capacity import CapacityError, alive_nodes, autoscales, describe_labels, selected
from redi_ray.config.experiment import ExperimentConfig, PretrainedModel
from redi_ray.config.resources import EngineSettings, TrainerSettings
from redi_ray.modeling.limits import count_parameters
from redi_ray.plan.errors import PlanError
from redi_ray.plan.shapes import student_shape

DRIVER_CPUS = 0.1
"""Logical CPUs of the process that leads a trial: it only waits."""
TASK_CPUS = 1.0
"""Kept free for the small tasks of the stages before the training."""

Resources = Mapping[str, float]


@dataclass(frozen=True)
class Needs:
    """What trials ask for."""

    workers: int
    """Per trial; of a range the most."""
    worker: Resources
    """Of each worker; it must fit on one node."""
    engine: Resources
    """Of the evaluator's engine; empty if there is none."""
    evaluation_cpus: float = 0.0
    """Of verification beside the engine."""
    worker_labels: Mapping[str, str] = field(default_factory=dict)
    """Selector of the nodes that workers may run on."""
    engine_labels: Mapping[str, str] = field(default_factory=dict)
    """The same of the engine."""
    fewest: int | None = None
    """Workers that a trial begins with where it is alone and there is no room for all; null: all of them."""

    @property
    def least(self) -> int:
        """Workers without which no trial begins."""
        return self.workers if self.fewest is None else self.fewest

    def __str__(self) -> str:
        each = amounts(self.worker) + on(self.worker_labels)
        engine = amounts(self.engine) + on(self.engine_labels)
        workers = f"{self.workers}" if self.least == self.workers else f"{self.least} to {self.workers}"
        return f"{workers} worker(s) of {each} per trial" + (f", and an engine of {engine}" if self.engine else "")


def needs_of(
    trainer: TrainerSettings,
    engine: EngineSettings | None,
    verify_workers: int,
    checks_with: float = 0.0,
    worker_memory: float = 0.0,
) -> Needs:
    """engine: null where trials are not scored by one. Memory, bytes: checks_with: of the check of its weights;
    worker_memory: of each rank of a training."""
    worker = {"CPU": trainer.cpus_per_worker} | ({"GPU": 1.0} if trainer.on_gpu else {})
    worker |= {"memory": worker_memory} if worker_memory else {}
    fewest, most = trainer.pool
    if engine is None:
        return Needs(most, worker, {}, worker_labels=trainer.label_selector, fewest=fewest)
    own = engine.demand | ({"memory": checks_with} if checks_with else {})
    labels = (trainer.label_selector, engine.label_selector)
    return Needs(most, worker, own, verify_workers, *labels, fewest)


def float32_copy(config: ExperimentConfig) -> float:
    """Bytes of the trained model in float32, which transformers computes with beside the engine, on the CPU, to check its
    weights: one copy at a time. By the files of a folder; 0 where the model's sizes cannot be found out here."""
    init = config.model.init
    if isinstance(init, PretrainedModel) and (counted := count_parameters(init.path)):
        return 4.0 * counted
    if config.model.overrides.trust_remote_code:  # without its code transformers would ask at the terminal
        return 0.0
    try:
        return 4.0 * student_shape(config, {}).parameters
    except PlanError:
        return 0.0


def amounts(resources: Resources) -> str:
    """For a person to read."""
    told = {
        name: f"{amount / 2**30:.3g} GiB" if name == "memory" else f"{amount:g}" for name, amount in resources.items()
    }
    return " + ".join(f"{amount} {name}" for name, amount in told.items())


def on(selector: Mapping[str, str]) -> str:
    return f" on nodes with {dict(selector)}" if selector else ""


def trials_at_a_time(
    nodes: Sequence[Resources], needs: Needs, labels: Sequence[Mapping[str, str]] | None = None
) -> int:
    """How many trials fit on the nodes at once, each with all of its workers, or one with fewer; 0 if not even that. labels: of
    each node; null where they are not known, and then any node may have the right ones.

    Each is counted with the most that it may grow to: what one takes beyond the fewest, another would wait for.
    """
    rooms = [dict(node) for node in nodes]
    if needs.engine and not _take(_matching(rooms, labels, needs.engine_labels), needs.engine):
        return 0
    slots = sum(_how_often(room, needs.worker) for room in _matching(rooms, labels, needs.worker_labels))
    cpus, each = sum(room.get("CPU", 0.0) for room in rooms), DRIVER_CPUS + needs.workers * needs.worker["CPU"]
    beside = TASK_CPUS + needs.evaluation_cpus
    fitting = min(slots // needs.workers, int((cpus - beside) / each + 1e-9))
    least = DRIVER_CPUS + needs.least * needs.worker["CPU"]
    return max(fitting, int(slots >= needs.least and cpus >= max(least, needs.evaluation_cpus)))


def _matching(
    rooms: list[dict[str, float]], labels: Sequence[Mapping[str, str]] | None, selector: Mapping[str, str]
) -> list[dict[str, float]]:
    """The rooms, not copies of them, of nodes with such labels."""
    if labels is None:
        return rooms
    return [room for room, own in zip(rooms, labels, strict=True) if selected({"Labels": own}, selector)]


def _take(rooms: list[dict[str, float]], wanted: Resources) -> bool:
    for room in rooms:
        if _how_often(room, wanted):
            for name in wanted.keys() & room.keys():
                room[name] -= wanted[name]
            return True
    return False


def _how_often(room: Resources, wanted: Resources) -> int:
    known = {name: amount for name, amount in wanted.items() if amount and (name != "memory" or name in room)}
    return int(min(room.get(name, 0.0) / amount + 1e-9 for name, amount in known.items()))


def plan_concurrency(needs: Needs, at_most: int | None, num_trials: int, *, local: bool) -> tuple[int, str]:
    """Trials at a time on the connected Ray, and a line that says what they ask for.

    Raises CapacityError if the cluster, grown as far as it may, could not run a single one.
    """
    nodes = alive_nodes()
    now = [node["Resources"] for node in nodes]
    fit_now = trials_at_a_time(now, needs, [node["Labels"] for node in nodes])
    later = growth()
    possible = trials_at_a_time(later, needs) if later is not None else fit_now
    if later is None and not local and autoscales(nodes):  # how far, it tells nobody
        possible = max(fit_now, at_most or 1)
    if not possible:
        has = "; ".join(describe(node) for node in (later if later is not None else now))
        labels = f" and the labels {describe_labels(nodes)}" if needs.worker_labels or needs.engine_labels else ""
        raise CapacityError(
            f"search: {needs}: the cluster can never hold that, it has {has or 'no nodes'}{labels}. Mend: fewer or "
            "smaller workers (search.trainer), or more nodes"
        )
    cores = max(1, int((os.cpu_count() or 1) / (needs.workers * needs.worker["CPU"]))) if local else sys.maxsize
    chosen = min(possible, at_most or cores, num_trials)
    line = f"{num_trials} trials, {chosen} at a time: {needs}"
    if fit_now < chosen:
        line += f"; the cluster holds {fit_now} now and is asked to grow"
    return chosen, line


def require_dashboard() -> None:
    """Raise CapacityError if the connected Ray has no dashboard, which Ray Train asks what a scheduler has stopped.

    Without an answer the workers of stopped trials would hold their places for ever, and the others wait for those.
    """
    from ray._private.worker import get_dashboard_url  # there is no public way

    if not get_dashboard_url():
        raise CapacityError(
            "search.scheduler: this Ray runs without its dashboard, so what stopped trials hold would never be free again. "
            "Mend: start Ray with it (pip install 'ray[default]'; ray start --head --include-dashboard=true), or set "
            "search.scheduler to {kind: none}"
        )


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
    return amounts({name: resources[name] for name in ("CPU", "GPU", "memory") if name in resources}) or "nothing"
