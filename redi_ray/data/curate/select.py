"""Pass `select`: what can only be decided over all problems together, duplicates and caps. One task, no texts.

It holds the survivors' ids, hashes and fingerprints: about 1 kB a problem with near-duplicates, 100 bytes without.
"""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from redi_ray.data.curate.blocks import Blocks
from redi_ray.data.curate.embeddings import with_embeddings, with_texts
from redi_ray.data.curate.work import Curation, Drops, finish, finished, part_name
from redi_ray.data.mix.draw import OF_EPOCH
from redi_ray.store import parquet, storage

AGAIN = "of_a_problem_that_goes"
"""Reason why a problem of a later epoch goes: its first one does."""
EXCLUDED = pa.schema([pa.field("problem_id", pa.string(), nullable=False)])


def select(curation: Curation, blocks: Blocks) -> Counter[str]:
    """Write `excluded` (EXCLUDED), the problems that go; returns the counts of drops."""
    mark = curation.work("excluded.json")
    if (known := finished(mark)) is not None:
        return known
    # the id breaks ties, which a key of 48 bits has once in a hundred million problems or so
    table = pa.concat_tables(parquet.read_tables(curation.work_files("survivors", curation.partitions)))
    table = table.sort_by([("key", "ascending"), ("problem_id", "ascending")])
    table, again = first_epochs(table)
    table = with_embeddings(curation, table) if blocks.embeds else table
    drops = Drops()
    for block in blocks.corpus:
        table = block.sieve(table, drops)
    drop_with_first(again, drops)
    gone = pa.Table.from_pylist([{"problem_id": row["problem_id"]} for row in drops.rows], schema=EXCLUDED)
    parquet.write_table(curation.work("excluded.parquet"), gone)
    if storage.exists(similar := curation.work("similar.parquet")):
        shown = with_texts(curation, next(parquet.read_tables([similar])))
        parquet.write_table(storage.join(curation.out_uri, "similar", part_name(0)), shown)
    drops.write(curation, f"select-{part_name(0)}")
    return finish(mark, drops.counts)


def first_epochs(table: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The problems, and apart from them those that a mixture has once more: they are no duplicates of themselves, and stay or go
    with the first."""
    again = pc.match_substring_regex(table["problem_id"], OF_EPOCH.pattern)
    return table.filter(pc.invert(again)), table.filter(again)


def drop_with_first(again: pa.Table, drops: Drops) -> None:
    """Note those whose first one has gone."""
    gone = {row["problem_id"]: row["reason"] for row in drops.rows}
    for problem_id in again["problem_id"].to_pylist():
        first = OF_EPOCH.sub("", problem_id)
        if first in gone:
            drops.add("problem", AGAIN, problem_id, detail=f"{first}: {gone[first]}")
