"""Pass `select`: what can only be decided over all problems together, duplicates and caps. One task, no texts.

It holds the survivors' ids, hashes and fingerprints: about 1 kB a problem with near-duplicates, 100 bytes without.
"""

from __future__ import annotations

from collections import Counter

import pyarrow as pa

from redi_ray.data.curate.blocks import Blocks
from redi_ray.data.curate.embeddings import with_embeddings, with_texts
from redi_ray.data.curate.work import Curation, Drops, finish, finished, part_name
from redi_ray.store import parquet, storage

EXCLUDED = pa.schema([pa.field("problem_id", pa.string(), nullable=False)])


def select(curation: Curation, blocks: Blocks) -> Counter[str]:
    """Write `excluded` (EXCLUDED), the problems that go; returns the counts of drops."""
    mark = curation.work("excluded.json")
    if (known := finished(mark)) is not None:
        return known
    # the id breaks ties, which a key of 48 bits has once in a hundred million problems or so
    table = pa.concat_tables(parquet.read_tables(curation.work_files("survivors", curation.partitions)))
    table = table.sort_by([("key", "ascending"), ("problem_id", "ascending")])
    table = with_embeddings(curation, table) if blocks.embeds else table
    drops = Drops()
    for block in blocks.corpus:
        table = block.sieve(table, drops)
    gone = pa.Table.from_pylist([{"problem_id": row["problem_id"]} for row in drops.rows], schema=EXCLUDED)
    parquet.write_table(curation.work("excluded.parquet"), gone)
    if storage.exists(similar := curation.work("similar.parquet")):
        shown = with_texts(curation, next(parquet.read_tables([similar])))
        parquet.write_table(storage.join(curation.out_uri, "similar", part_name(0)), shown)
    drops.write(curation, f"select-{part_name(0)}")
    return finish(mark, drops.counts)
