"""Traces that state the reference answer of each problem in a fixed form: a task for each shard of problems."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pyarrow as pa

from redi_ray.config.step_judges import StateSettings
from redi_ray.data.shard_tasks import each_shard
from redi_ray.schemas import PROBLEM, TRACE, trace_id
from redi_ray.store import parquet, storage

STATED = "stated"
"""What the traces' column `model` says."""
NO_ANSWER = "no_reference_answer"


@dataclass(frozen=True)
class Stating:
    """How, the same for every shard."""

    problems: str
    """Folder of the problems' shards."""
    out_uri: str
    settings: StateSettings


def state(names: list[str], how: Stating) -> Counter[str]:
    """Write `traces/round-000/<shard>` (TRACE) of the problems' shards of these names; counts: `in`, `out`, and the problems
    without a reference answer."""
    counts: Counter[str] = Counter()
    for _, found in each_shard(names, state_shard, how):
        counts.update(found)
    return counts


def state_shard(name: str, how: Stating) -> dict[str, int]:
    """One shard."""
    counts, out = Counter[str](), storage.join(how.out_uri, "traces/round-000", name.replace("/", "-"))
    with parquet.table_writer(out, TRACE) as write:
        for batch in parquet.read_batches(storage.join(how.problems, name), PROBLEM.names):
            rows = batch.to_pylist()
            counts["in"] += len(rows)
            answered = [row for row in rows if (row["answer"] or "").strip()]
            counts["out"] += len(answered)
            counts[NO_ANSWER] += len(rows) - len(answered)
            traces = [
                {
                    **row,
                    "trace_id": trace_id(row["problem_id"], 0),
                    "sample_index": 0,
                    "completion": how.settings.text.format(answer=row["answer"]),
                    "finish_reason": "stop",
                    "model": STATED,
                }
                for row in answered
            ]
            write(pa.Table.from_pylist(traces, schema=TRACE))
    return dict(counts)
