"""What samples say of looking back, a row for each: a task for each shard, and a shard that is done is only counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from redi_ray.config.reflection import ReflectSettings
from redi_ray.data.columns import write_column
from redi_ray.data.shard_tasks import each_shard
from redi_ray.schemas import turns_of
from redi_ray.store import parquet, storage
from redi_ray.text.reflection import compiled, hits

HITS = "hits_"
"""Begins the name of a behaviour's column."""
READ = ("problem_id", "verdict", "model", "num_tokens", "completion", "turns")


@dataclass(frozen=True)
class Reflecting:
    """How, the same for every shard."""

    samples: str
    """Folder of the verified shards."""
    out_uri: str
    """Of the table."""
    settings: ReflectSettings


def schema_of(settings: ReflectSettings) -> pa.Schema:
    """Of the table: `trace_id`, whose sample it is, its verdict and lengths, and `hits_<behaviour>`."""
    told = [pa.field(name, pa.string()) for name in ("trace_id", "problem_id", "verdict", "model")]
    lengths = [pa.field(name, pa.int64()) for name in ("characters", "num_tokens")]
    return pa.schema([*told, *lengths, *(pa.field(HITS + name, pa.int64()) for name in settings.behaviours)])


def reflect(names: list[str], how: Reflecting) -> Counter[str]:
    """Write `<out_uri>/<shard>` for the shards of these names; the count of samples `in`."""
    counts: Counter[str] = Counter()
    for _, rows in each_shard(names, reflect_shard, how):
        counts["in"] += rows
    return counts


def reflect_shard(name: str, how: Reflecting) -> int:
    """One shard; how many samples it has."""
    out, samples = storage.join(how.out_uri, name), storage.join(how.samples, name)
    if storage.exists(out):
        return sum(batch.num_rows for batch in parquet.read_batches(out, ["verdict"]))
    behaviours = compiled(how.settings.behaviours)

    def values(rows: pa.Table) -> list[dict[str, Any]]:
        found = []
        for row in rows.to_pylist():
            text = "\n".join(turn["content"] for turn in turns_of(row) if turn["role"] == "assistant")
            told = {key: row[key] for key in ("problem_id", "verdict", "model", "num_tokens")}
            counted = {HITS + behaviour: number for behaviour, number in hits(text, behaviours).items()}
            found.append({**told, "characters": len(text), **counted})
        return found

    return write_column(samples, out, schema_of(how.settings), READ, values)
