"""Work on many shards, a Ray task for each: what it gives is small, so the driver never holds rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from redi_ray.cluster.runtime import user_error

TASK_CPUS = 0.5


def each_shard(names: list[str], call: Callable[..., Any], *arguments: Any) -> Iterator[tuple[str, Any]]:
    """(name, call(name, *arguments)) of every shard, as they are done; what a call gives must fit into JSON."""
    import ray.data

    def task(batch: dict[str, Any]) -> dict[str, Any]:
        return {"name": batch["name"], "result": [json.dumps(call(str(name), *arguments)) for name in batch["name"]]}

    if not names:
        return
    items = ray.data.from_items([{"name": name} for name in names], override_num_blocks=len(names))
    tasks = items.map_batches(task, batch_size=1, num_cpus=TASK_CPUS)
    tasks.context.raise_original_map_exception = True  # or a UserError would arrive as text
    try:
        for row in tasks.iter_rows():
            yield row["name"], json.loads(row["result"])
    except ray.exceptions.RayTaskError as error:
        if (told := user_error(error)) is not None:
            raise told from None
        raise
