"""A Ray of several nodes on this machine, each with raylets and workers of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ray._private.node import Node
    from ray.cluster_utils import Cluster


def new_cluster() -> Cluster:
    """A Ray without nodes yet, those to come being in folders of the caller's choice."""
    from ray._common.utils import get_default_ray_temp_dir
    from ray.cluster_utils import Cluster

    # The head's address is noted in this folder, which is not made where the head has another one.
    Path(get_default_ray_temp_dir()).mkdir(parents=True, exist_ok=True)
    return Cluster()


@contextmanager
def ray_nodes(
    labels: Sequence[Mapping[str, str]], *, num_cpus: int = 4, num_gpus: int = 0
) -> Iterator[tuple[Cluster, list[Node]]]:
    """A node for each set of labels; the driver, which is this process, is connected to the first, the head."""
    import ray

    if ray.is_initialized():
        pytest.skip("another test's Ray is connected")
    room = {"num_cpus": num_cpus, "num_gpus": num_gpus, "object_store_memory": 200 << 20}
    with tempfile.TemporaryDirectory(prefix="rp", dir="/tmp", ignore_cleanup_errors=True) as folder:
        cluster = new_cluster()
        head, *others = labels
        nodes = [cluster.add_node(**room, labels=dict(head), temp_dir=folder, include_dashboard=False)]
        nodes += [cluster.add_node(**room, labels=dict(other)) for other in others]
        ray.init(address=cluster.address, log_to_driver=False)
        try:
            yield cluster, nodes
        finally:
            ray.shutdown()
            cluster.shutdown()
