"""What a folder of trace shards holds: ids, counts, and traces that two shards hold both.

Doubles come from a killed driver whose last write task lived on beside its successor's. Both hold the same sample, drawn
with the same seed; the one in the shard whose name comes first stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from redi_ray.data.sample.samples import TASK_CPUS, SampleStats
from redi_ray.data.sources.ids import Hashes, IdSet, hash_ids
from redi_ray.schemas import UNFINISHED, Verdict
from redi_ray.store import parquet, storage

SHARDS_PER_TASK = 64


@dataclass
class Survey:
    """Ids, and what the rows sum up to."""

    ids: IdSet = field(default_factory=IdSet)
    stats: SampleStats = field(default_factory=SampleStats)


def survey(out_uri: str, verified_uri: str | None = None) -> Survey:
    """The trace ids below `out_uri`. Doubles are dropped, and with them the verdicts on shards that change.

    Tasks read the shards; the driver gets 8 bytes a trace.
    """
    import ray

    found, drop = Survey(), ray.remote(num_cpus=TASK_CPUS)(_drop_rows)
    for uri, (ids, stats) in _look_through(trace_shards(out_uri), _trace_stats):
        double = found.ids.contains(ids) | ~_first_of_each(ids)
        found.ids.add(ids)
        found.stats += ray.get(drop.remote(uri, double, verified_uri)) if double.any() else stats
    return found


def survey_verdicts(verified_uri: str) -> Survey:
    """The ids of the problems with a correct trace below `verified_uri`."""
    found = Survey()
    for _, (ids, stats) in _look_through(storage.list_files(verified_uri, ".parquet"), verdict_stats):
        found.ids.add(ids)
        found.stats += stats
    return found


def trace_shards(traces_uri: str) -> list[str]:
    """The trace shards below a folder, rejects left out."""
    return [uri for uri in storage.list_files(traces_uri, ".parquet") if "/rejects/" not in uri]


def rejected_ids(out_uri: str) -> IdSet:
    """Ids of the requests that were rejected; there are few, or something is badly wrong."""
    ids = IdSet()
    for table in parquet.read_tables(storage.list_files(storage.join(out_uri, "rejects"), ".parquet"), ["where"]):
        ids.add(hash_ids(table["where"].to_pylist()))
    return ids


Look = Callable[[str], tuple[Hashes, SampleStats]]


def _look_through(uris: list[str], look: Look) -> Iterator[tuple[str, tuple[Hashes, SampleStats]]]:
    """`look` at every shard, in tasks; the answers in the order of the shards."""
    import ray

    chunks = [uris[at : at + SHARDS_PER_TASK] for at in range(0, len(uris), SHARDS_PER_TASK)]
    remote = ray.remote(num_cpus=TASK_CPUS)(_look_at)
    tasks = [remote.remote(chunk, look) for chunk in chunks]
    for chunk, task in zip(chunks, tasks, strict=True):
        answers: list[tuple[Hashes, SampleStats]] = ray.get(task)
        yield from zip(chunk, answers, strict=True)


def _look_at(uris: list[str], look: Look) -> list[tuple[Hashes, SampleStats]]:
    return [look(uri) for uri in uris]


def _trace_stats(uri: str) -> tuple[Hashes, SampleStats]:
    (table,) = parquet.read_tables([uri], ["trace_id", "num_tokens", "finish_reason", "sampling"])
    return hash_ids(table["trace_id"].to_pylist()), stats_of(table)


def stats_of(traces: pa.Table) -> SampleStats:
    """What `traces` (TRACE columns) add up to."""
    reasons = Counter(traces["finish_reason"].to_pylist())
    told = pc.struct_field(pc.extract_regex(traces["sampling"], r'"prompt_tokens": (?P<count>\d+)'), "count")
    return SampleStats(
        traces=traces.num_rows,
        tokens=pc.sum(traces["num_tokens"]).as_py() or 0,
        prompt_tokens=pc.sum(told.cast(pa.int64())).as_py() or 0,
        truncated=reasons["length"] + reasons[UNFINISHED],
        loops=reasons["loop"],
    )


def verdict_stats(uri: str) -> tuple[Hashes, SampleStats]:
    """Hashes of the problems that a verified shard solves, and its counts of verdicts."""
    (table,) = parquet.read_tables([uri], ["problem_id", "verdict"])
    correct = table.filter(pc.equal(table["verdict"], str(Verdict.CORRECT)))
    ids = hash_ids(pc.unique(correct["problem_id"]).to_pylist())
    return ids, SampleStats(verified=table.num_rows, correct=correct.num_rows)


def _first_of_each(ids: Hashes) -> NDArray[np.bool_]:
    first = np.zeros(len(ids), bool)
    first[np.unique(ids, return_index=True)[1]] = True
    return first


def _drop_rows(uri: str, double: NDArray[np.bool_], verified_uri: str | None) -> SampleStats:
    stats, start = SampleStats(doubles=int(double.sum())), 0
    with parquet.table_writer(uri, parquet.read_schema(uri)) as write:
        for batch in parquet.read_batches(uri):
            kept = batch.filter(pa.array(~double[start : start + batch.num_rows]))
            start += batch.num_rows
            stats += stats_of(kept)
            write(kept)
    if verified_uri is not None:
        storage.delete_file(storage.join(verified_uri, uri.rsplit("/", 1)[-1]))
    return stats
