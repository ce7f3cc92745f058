"""Shards of traces whose answers need Math-Verify: one in two is right."""

from __future__ import annotations

import pyarrow as pa

from redi_ray.schemas import TRACE
from redi_ray.store import parquet, storage


def write_trace_shards(folder: str, *, shards: int, rows: int) -> list[str]:
    """`<folder>/part-<shard>.parquet`, each with `rows` traces in TRACE schema; their paths."""
    uris = []
    for shard in range(shards):
        made = [_trace(shard, row) for row in range(rows)]
        table = pa.table({name: [trace.get(name) for trace in made] for name in TRACE.names}).cast(TRACE)
        uris.append(storage.join(folder, f"part-{shard}.parquet"))
        parquet.write_table(uris[-1], table)
    return uris


def _trace(shard: int, row: int) -> dict[str, object]:
    top = shard * 1000 + row + 1
    return {
        "trace_id": f"{shard}-{row}",
        "problem_id": f"{shard}-{row}",
        "problem": "?",
        "answer": f"{top}/2",
        "completion": f"\\boxed{{\\frac{{{top}}}{{{2 + row % 2}}}}}",
        "sample_index": 0,
        "model": "m",
        "finish_reason": "stop",
        "num_tokens": 5,
        "sampling": "{}",
    }
