"""What a rank takes of its machine, before any is started."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redi_ray.config.resources import TrainerSettings
from redi_ray.config.training import ModelOverrides
from redi_ray.modeling.limits import FLOAT32, count_parameters


def rank_bytes(parameters: int, num_workers: int, use_gpu: bool, adapters: bool, anchored: bool = False) -> int:
    """Memory of a rank's machine: every rank loads all weights in float32 before they are sharded; what the optimizer adds
    (gradient and two moments) is sharded, and on the GPU where there is one. anchored: a frozen model of the same size stays
    beside them."""
    added = 0 if use_gpu or adapters else 3 * FLOAT32 * parameters // num_workers
    return FLOAT32 * parameters * (2 if anchored else 1) + added


def fits_on_one_node(resources: Mapping[str, float], num_workers: int) -> bool:
    """Whether the cluster is a single node that holds all workers, so that none will come and none can go alone."""
    import ray

    room = ray.cluster_resources()
    return len(ray.nodes()) == 1 and all(room.get(name, 0) >= n * num_workers for name, n in resources.items())


def told_of_ranks(trainer: TrainerSettings, resources: Mapping[str, float]) -> dict[str, Any]:
    """What workers are told of how many they are and how they run."""
    fewest, most = trainer.pool
    return {
        "threads": max(1, int(trainer.cpus_per_worker)),
        "trackers": tuple(trainer.trackers),
        "watch_nodes": not fits_on_one_node(resources, most),
        "fewest_ranks": fewest,
        "grows": fewest < most,
    }


def resources_of_rank(
    model_path: str, trainer: TrainerSettings, overrides: ModelOverrides, anchored: bool = False
) -> dict[str, float]:
    """What Ray sets aside for one rank; bytes of memory too, where the model's size can be told."""
    resources = {"CPU": trainer.cpus_per_worker} | ({"GPU": 1.0} if trainer.on_gpu else {})
    if (parameters := count_parameters(model_path)) is not None:
        held = rank_bytes(parameters, trainer.pool[0], trainer.on_gpu, overrides.lora is not None, anchored)
        resources["memory"] = held
    return resources
