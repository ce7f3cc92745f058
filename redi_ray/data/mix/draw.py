"""Drawing a mixture: of each source the problems whose ids have the smallest hashes, with their traces and tests, by shards.

Which these are follows from the ids and the seed alone. A shard that is there is not written again; texts are not shuffled, and
the driver sees counts alone.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from redi_ray.data.shard_tasks import each_shard
from redi_ray.store import parquet, storage

AGAIN = "~again"
"""Stands before the number of the epoch, from 2, behind the id of a problem that comes again."""
OF_EPOCH = re.compile(rf"{AGAIN}\d+$")
LOOKS_SO = rf"({AGAIN}\d+~*)$"
"""An id that looks so already, as those of another mixture do, gets one more `~`."""
TABLES = ("problems", "imported", "tests", "dev")
"""Of sources; `dev`, what is held out, is taken whole."""
MOST_FILES = 64
"""Shards of a source that become one, where few of its problems are taken."""


@dataclass(frozen=True)
class Drawn:
    """What is taken of one source: each problem `full` times, and those below the threshold once more."""

    name: str
    seed: int
    full: int
    below: int | None
    """Largest hash that comes once more; null for none."""
    salt: int = 0
    """Of the hashes: the first for which no two ids share the threshold."""
    left_out: frozenset[str] = frozenset()
    """Ids of problems that are not drawn at all."""

    def copies(self, ids: list[str]) -> NDArray[np.int64]:
        """int64[n]: how often each problem of these ids is taken."""
        found = np.full(len(ids), self.full, np.int64)
        if self.below is not None:
            found += hashes(self.name, ids, self.seed, self.salt) <= np.uint64(self.below)
        if self.left_out:
            found[[name in self.left_out for name in ids]] = 0
        return found


@dataclass(frozen=True)
class Part:
    """One shard of the mixture."""

    source: Drawn
    table: str
    files: tuple[str, ...]
    """Shards of the source."""
    out: str


def hashes(source: str, ids: list[str], seed: int, salt: int = 0) -> NDArray[np.uint64]:
    """uint64[n]: by which problems of a source are drawn."""
    begun = hashlib.blake2b(f"{seed}/{salt}/{source}/".encode(), digest_size=8)
    digests = []
    for value in ids:
        one = begun.copy()
        one.update(value.encode())
        digests.append(one.digest())
    return np.frombuffer(b"".join(digests), ">u8").astype(np.uint64)


def draw(files: list[str], name: str, taken: int, seed: int, left_out: Sequence[str] = ()) -> Drawn:
    """Which `taken` problems of a source with these shards of `problems`. left_out: ids of those that are none of them."""
    without = frozenset(left_out)
    read = (value for table in parquet.read_tables(files, ["problem_id"]) for value in table["problem_id"].to_pylist())
    ids = [value for value in read if value not in without]
    full, rest = divmod(taken, len(ids)) if ids else (0, 0)
    salt, below = 0, None
    while rest:
        found = np.sort(hashes(name, ids, seed, salt))
        if found[rest - 1] != found[rest]:
            below = int(found[rest - 1])
            break
        salt += 1
    return Drawn(name, seed, full, below, salt, without)


def parts_of(sources: Mapping[str, tuple[Drawn, float, Mapping[str, list[str]]]], out_uri: str) -> list[Part]:
    """The shards of the mixture, those of all sources in turn. sources: name -> what is drawn, as a share of the source's
    problems, and the source's shards by table."""
    found: list[Part] = []
    for table in TABLES:
        placed: list[tuple[float, int, Drawn, tuple[str, ...]]] = []
        for order, (drawn, share, tables) in enumerate(sources.values()):
            together = 1 if table == "dev" or not share else max(1, min(MOST_FILES, int(1 / share)))
            files = tables.get(table, []) if share or table == "dev" else []
            chunks = [tuple(files[at : at + together]) for at in range(0, len(files), together)]
            placed += [((n + 0.5) / len(chunks), order, drawn, chunk) for n, chunk in enumerate(chunks)]
        for number, (_, _, drawn, chunk) in enumerate(sorted(placed, key=lambda one: one[:2])):
            out = storage.join(out_uri, table, f"part-{number:05d}.parquet")
            found.append(Part(drawn, table, chunk, out))
    return found


def write_parts(parts: list[Part]) -> Iterator[tuple[Part, Counter[str]]]:
    """Write the shards that are not there; each with its counts: `out` rows, `again` those of them that come again, and
    `finish/REASON` of traces."""
    for number, counts in each_shard([str(at) for at in range(len(parts))], _numbered, parts):
        yield parts[int(number)], Counter(counts)


def _numbered(number: str, parts: list[Part]) -> dict[str, int]:
    return dict(write_part(parts[int(number)]))


def write_part(part: Part) -> Counter[str]:
    """Write one shard, or find it; its counts."""
    counts: Counter[str] = Counter()
    schema = parquet.read_schema(part.files[0])
    told = [name for name in ("problem_id", "finish_reason") if name in schema.names]
    if not storage.exists(part.out):
        with parquet.table_writer(part.out, schema) as write:
            for file in part.files:
                for batch in parquet.read_batches(file):
                    for taken in _taken(batch, part):
                        write(taken)
    for rows in parquet.read_tables([part.out], told):
        counts["out"] += rows.num_rows
        counts["again"] += pc.sum(pc.match_substring_regex(rows["problem_id"], OF_EPOCH.pattern)).as_py() or 0
        if "finish_reason" in told:
            reasons = pc.value_counts(pc.fill_null(rows["finish_reason"], "unknown")).to_pylist()
            counts.update({f"finish/{one['values']}": one["counts"] for one in reasons})
    return counts


def _copies(rows: pa.Table, part: Part) -> NDArray[np.int64]:
    if part.table == "dev":
        return np.ones(rows.num_rows, np.int64)
    return part.source.copies(rows["problem_id"].to_pylist())


def _taken(batch: pa.Table, part: Part) -> Iterator[pa.Table]:
    """The rows that are taken, once for every epoch in which they come."""
    copies = _copies(batch, part)
    for epoch in range(1, int(copies.max(initial=0)) + 1):
        rows = batch.filter(pa.array(copies >= epoch))
        yield named(rows, part.source.name, epoch)


def named(rows: pa.Table, source: str, epoch: int = 1) -> pa.Table:
    """Rows of a source with the ids and the `source` that they have in the mixture."""
    again = f"{AGAIN}{epoch}" if epoch > 1 else ""
    own = pc.replace_substring_regex(rows["problem_id"], LOOKS_SO, r"\1~")
    ids = pc.binary_join_element_wise(source, own, "/")
    ids = pc.binary_join_element_wise(ids, again, "") if again else ids
    columns = {"problem_id": ids}
    if "source" in rows.column_names:
        of = pc.binary_join_element_wise(source, rows["source"], "/")
        columns["source"] = pc.coalesce(of, pa.scalar(source))
    if "trace_id" in rows.column_names:
        columns["trace_id"] = pc.binary_join_element_wise(ids, rows["sample_index"].cast(pa.string()), "#")
    for name, values in columns.items():
        at = rows.schema.get_field_index(name)
        rows = rows.set_column(at, rows.schema.field(name), values)
    return rows
