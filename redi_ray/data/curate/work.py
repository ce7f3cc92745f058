"""How the passes of curation share work: the plan, tables cut into the next pass's tasks, drops, finished tasks."""

from __future__ import annotations

import hashlib
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from redi_ray.config.curation import CurateConfig
from redi_ray.config.prompts import PromptSettings
from redi_ray.data.weights import Weighing
from redi_ray.errors import storage_errors
from redi_ray.store import parquet, storage

DROPPED = pa.schema(
    [
        pa.field("problem_id", pa.string(), nullable=False),
        pa.field("trace_id", pa.string()),
        pa.field("what", pa.string(), nullable=False),  # problem | example | pair | trace
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string()),
    ]
)
"""What was left out. A `problem` gives no example at all; an `example` or a `pair` is one of several planned for a problem
that stays; a `trace` was no candidate for its side, which may or may not have cost its problem anything."""

PLACED = (
    pa.field("problem_id", pa.string(), nullable=False),
    pa.field("sample_index", pa.int64(), nullable=False),
    pa.field("shard", pa.int32(), nullable=False),
    pa.field("row", pa.int32(), nullable=False),
    pa.field("verdict", pa.string(), nullable=False),
)
"""What every scan says of a sample: which it is, where it lies, and its verdict."""

MAX_TASKS = 64
"""Groups and partitions at the most."""
TASK_BYTES = 8 << 20
"""Input per task, below which it is not worth another one."""
PART_PROBLEMS = 1000
"""Problems per output shard, and what a crash can cost in the last pass."""


@dataclass(frozen=True, kw_only=True)
class Sharded:
    """Work on shards, several of them a group, as every worker sees it."""

    verified: tuple[str, ...]
    out_uri: str
    borders: tuple[int, ...]
    """Group g holds the shards from `borders[g]` to `borders[g + 1]`."""

    @property
    def groups(self) -> int:
        return len(self.borders) - 1

    @cached_property
    def group_of(self) -> list[int]:
        """Group of each shard."""
        return [g for g in range(self.groups) for _ in range(self.borders[g], self.borders[g + 1])]

    def work(self, *parts: str) -> str:
        """A place for what the passes hand on."""
        return storage.join(self.out_uri, "work", *parts)

    def work_files(self, table: str, tasks: int) -> list[str]:
        """The files of a table, one of each task of the pass that wrote it."""
        return [self.work(table, part_name(task)) for task in range(tasks)]


@dataclass(frozen=True, kw_only=True)
class Passes(Sharded):
    """Work on verified shards in several passes."""

    tokenizer: str
    prompt: PromptSettings
    partitions: int
    trust_remote_code: bool = False
    """Of the tokenizer."""

    def partition_of(self, problem_id: str) -> int:
        return zlib.crc32(problem_id.encode()) % self.partitions


@dataclass(frozen=True, kw_only=True)
class Curation(Passes):
    """One curation."""

    config: CurateConfig
    others: int = 0
    """The last so many shards stand in for right traces that the first ones lack; nothing else of them counts."""
    part_problems: int = PART_PROBLEMS
    weighing: Weighing | None = None
    """The column that weighs the tokens of pairs; none of the shards that stand in has any."""

    def stands_in(self, shard: int) -> bool:
        """Whether it is one of the last."""
        return shard >= len(self.verified) - self.others


def part_name(*numbers: int) -> str:
    return f"part-{'-'.join(f'{number:05d}' for number in numbers)}.parquet"


def cut(sizes: Sequence[int]) -> tuple[int, ...]:
    """Borders of consecutive groups of about equal bytes, MAX_TASKS at the most."""
    least = max(TASK_BYTES, -(-sum(sizes) // MAX_TASKS))
    borders, filled = [0], 0
    for number, size in enumerate(sizes, start=1):
        filled += size
        if filled >= least:
            borders.append(number)
            filled = 0
    if borders[-1] != len(sizes):
        borders.append(len(sizes))
    return tuple(borders)


def count_partitions(sizes: Sequence[int]) -> int:
    """Partitions of the problem ids, for inputs of these sizes in bytes."""
    return max(1, min(MAX_TASKS, sum(sizes) // TASK_BYTES))


def order_key(seed: int, problem_id: str) -> str:
    """Sorting by this shuffles the problems the same way under any sharding; it leads the example's and pair's id."""
    return hashlib.sha256(f"{seed}/{problem_id}".encode()).hexdigest()[:12]


def write_rows(curation: Passes, table: str, name: str, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    """One shard of a published table, if it has any rows: not every reader takes a Parquet file without."""
    if rows:
        parquet.write_table(storage.join(curation.out_uri, table, name), pa.Table.from_pylist(rows, schema=schema))


def write_row_groups(uri: str, parts: Iterable[list[dict[str, Any]]], schema: pa.Schema) -> None:
    """One file whose row group n holds `parts[n]`, also where that is empty."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for rows in parts:
            writer.write_table(pa.Table.from_pylist(rows, schema=schema), row_group_size=max(1, len(rows)))
    storage.write_bytes(uri, sink.getvalue())


def read_row_group(uris: list[str], number: int) -> pa.Table:
    """Row group `number` of every file, one after another."""
    tables = []
    for uri in uris:
        fs, path = storage.filesystem(uri)
        with storage_errors("read", uri), fs.open_input_file(path) as source:
            tables.append(pq.ParquetFile(source).read_row_group(number))
    return pa.concat_tables(tables)


def stream_rows(uri: str, columns: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """(row number, row) of a shard, a batch in memory at a time."""
    number = 0
    for batch in parquet.read_batches(uri, columns):
        for row in batch.to_pylist():
            yield number, row
            number += 1


class Drops:
    """Collects what a task leaves out: the rows for the table `dropped`, and their counts."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.counts: Counter[str] = Counter()

    def add(
        self, what: str, reason: str, problem_id: str, trace_id: str | None = None, detail: str | None = None
    ) -> None:
        self.counts[f"{what}/{reason}"] += 1
        row = {"problem_id": problem_id, "trace_id": trace_id, "what": what, "reason": reason, "detail": detail}
        self.rows.append(row)

    def write(self, curation: Passes, name: str) -> None:
        write_rows(curation, "dropped", name, self.rows, DROPPED)


def finished(uri: str) -> Counter[str] | None:
    """The counts of a task that has been finished."""
    return Counter(storage.read_json(uri)) if storage.exists(uri) else None


def finish(uri: str, counts: Counter[str]) -> Counter[str]:
    """Declare a task finished; everything it writes must be there."""
    storage.write_json(uri, dict(sorted(counts.items())))
    return counts
