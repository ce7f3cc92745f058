"""Whether Ray has room for a step beside those that run: two that each hold half of what they need would wait for ever."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace

from redi_ray.cluster.capacity import (
    SMALL_TASKS_CPUS,
    Demand,
    alive_nodes,
    demand,
    nodes_to_come,
    packs,
    stands_still,
)
from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.resources import EngineSettings, TrainerSettings

SMALL = demand("small tasks", [{"CPU": SMALL_TASKS_CPUS}], {})
"""Of any step: it reads, writes, counts."""


def of_trainer(field: str, trainer: TrainerSettings) -> Demand:
    """The workers of a training."""
    worker = {"GPU": float(trainer.on_gpu), "CPU": trainer.cpus_per_worker}
    return demand(field, [worker] * trainer.pool[0], trainer.label_selector)


def of_engines(field: str, engine: EngineSettings) -> Demand:
    """The fewest replicas of a pool."""
    return replace(demand(field, engine.pieces * engine.pool[0], engine.label_selector), engine=engine)


def of_verifiers(config: ExperimentConfig, workers: int | None = None) -> Demand:
    """The actors that compare answers; workers: null takes all that the config allows."""
    pieces = [{"CPU": float(config.verify.processes)}] * (workers or config.resources.verify_workers)
    return demand("resources.verify_workers", pieces, config.resources.cpu_label_selector)


def has_room(demands: Iterable[Demand], config: ExperimentConfig) -> bool:
    """Whether all of it finds room at a time on the connected Ray, or on what it can grow to."""
    nodes = alive_nodes()
    grown = list(nodes_to_come(nodes))
    joined = bool(config.resources.ray.address or os.environ.get("RAY_ADDRESS"))
    if joined and not grown and not stands_still(nodes):  # an autoscaler that tells nothing
        return True
    return packs([*nodes, *grown], demands)
