"""Problems made of samples: what every step that makes some does with a shard.

problems/<shard>    PROBLEM
dropped/<shard>     samples that give none, with the reason
counts/<shard>      written last of a shard's task
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pyarrow as pa

from redi_ray.data.curate.work import DROPPED, Drops, finish, finished
from redi_ray.data.shard_tasks import each_shard
from redi_ray.schemas import PROBLEM
from redi_ray.store import parquet, storage

NO_TEXT = "no_text"
"""Why a sample gives no problem: there is nothing of it to show."""
Row = dict[str, Any]
Making = Callable[[list[Row]], Iterable[Row | str]]
"""Rows of samples -> for each its row of PROBLEM, or why it has none."""


def problems_of_shards(names: Sequence[str], of_shard: Callable[..., Counter[str]], how: Any) -> Counter[str]:
    """Make the problems of the shards of these names, a task for each; the counts: `in`, `out`, and the rest by reason."""
    counts: Counter[str] = Counter()
    for _, found in each_shard(list(names), of_shard, how):
        counts.update(found)
    return counts


def problems_of_shard(
    name: str, samples: str, out_uri: str, read: Sequence[str], making: Callable[[], Making]
) -> Counter[str]:
    """Write `problems` and `dropped` of a shard of the folder `samples`, of which the columns `read` are read; a shard that is
    done is only counted. making: called for a shard that is not."""
    mark = storage.join(out_uri, "counts", name.removesuffix(".parquet") + ".json")
    if (known := finished(mark)) is not None:
        return known
    counts, drops, make = Counter[str](), Drops(), making()
    with parquet.table_writer(storage.join(out_uri, "problems", name), PROBLEM) as write:
        for batch in parquet.read_batches(storage.join(samples, name), list(read)):
            rows, made = batch.to_pylist(), []
            for row, found in zip(rows, make(rows), strict=True):
                counts["in"] += 1
                if isinstance(found, str):
                    counts[found] += 1
                    drops.add("trace", found, row["problem_id"], row["trace_id"])
                else:
                    made.append(found)
            counts["out"] += len(made)
            write(pa.Table.from_pylist(made, schema=PROBLEM))
    if drops.rows:
        dropped = pa.Table.from_pylist(drops.rows, schema=DROPPED)
        parquet.write_table(storage.join(out_uri, "dropped", name), dropped)
    return finish(mark, counts)
