"""What a rank takes of its machine, before any is started."""

from __future__ import annotations

from collections.abc import Mapping

FLOAT32 = 4
"""Bytes."""


def rank_bytes(parameters: int, num_workers: int, use_gpu: bool, adapters: bool) -> int:
    """Memory of a rank's machine: every rank loads all weights in float32 before they are sharded; what the optimizer adds
    (gradient and two moments) is sharded, and on the GPU where there is one."""
    added = 0 if use_gpu or adapters else 3 * FLOAT32 * parameters // num_workers
    return FLOAT32 * parameters + added


def fits_on_one_node(resources: Mapping[str, float], num_workers: int) -> bool:
    """Whether the cluster is a single node that holds all workers, so that none will come and none can go alone."""
    import ray

    room = ray.cluster_resources()
    return len(ray.nodes()) == 1 and all(room.get(name, 0) >= n * num_workers for name, n in resources.items())
