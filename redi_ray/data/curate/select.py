"""Pass `select`: what can only be decided over all problems together, duplicates and caps. One task, no texts.

It holds the survivors' ids, hashes and fingerprints: about 1 kB a problem with near-duplicates, 100 bytes without.
"""

from __future__ import annotations

from collections import Counter

import pyarrow as pa

from redi_ray.data.curate.duplicates import exact_duplicates, near_duplicates
from redi_ray.data.curate.work import Curation, Drops, finish, finished, part_name
from redi_ray.store import parquet

EXCLUDED = pa.schema([pa.field("problem_id", pa.string(), nullable=False)])


def select(curation: Curation) -> Counter[str]:
    """Write `excluded` (EXCLUDED), the problems that go; returns the counts of drops."""
    mark = curation.work("excluded.json")
    if (known := finished(mark)) is not None:
        return known
    # the id breaks ties, which a key of 48 bits has once in a hundred million problems or so
    table = pa.concat_tables(parquet.read_tables(curation.work_files("survivors", curation.partitions)))
    table = table.sort_by([("key", "ascending"), ("problem_id", "ascending")])
    drops = Drops()
    if curation.config.duplicates is not None:
        table = drop_duplicates(curation, table, drops)
    cap_buckets(curation, table, drops)
    gone = pa.Table.from_pylist([{"problem_id": row["problem_id"]} for row in drops.rows], schema=EXCLUDED)
    parquet.write_table(curation.work("excluded.parquet"), gone)
    drops.write(curation, f"select-{part_name(0)}")
    return finish(mark, drops.counts)


def drop_duplicates(curation: Curation, table: pa.Table, drops: Drops) -> pa.Table:
    """The rows that are no duplicates of an earlier one."""
    assert curation.config.duplicates is not None
    if curation.config.duplicates.exact:
        same = exact_duplicates(table)
        table = _without(table, {row: f"of {_id(table, first)}" for row, first in same.items()}, "duplicate", drops)
    if curation.config.duplicates.near is not None:
        near = near_duplicates(table, curation.config.duplicates.near)
        told = {row: f"of {_id(table, first)}, similarity {found:.2f}" for row, (first, found) in near.items()}
        table = _without(table, told, "near_duplicate", drops)
    return table


def cap_buckets(curation: Curation, table: pa.Table, drops: Drops) -> None:
    """Note the problems over their bucket's cap."""
    difficulty = curation.config.difficulty
    if difficulty is None or not difficulty.buckets:
        return
    kept: Counter[int] = Counter()
    for problem_id, bucket in zip(table["problem_id"].to_pylist(), table["bucket"].to_pylist(), strict=True):
        cap = difficulty.buckets[bucket].max_problems
        if cap is not None and kept[bucket] >= cap:
            drops.add("problem", "over_bucket_cap", problem_id, detail=f"up to {difficulty.buckets[bucket].up_to:g}")
        kept[bucket] += 1


def _id(table: pa.Table, row: int) -> str:
    return table["problem_id"][row].as_py()


def _without(table: pa.Table, details: dict[int, str], reason: str, drops: Drops) -> pa.Table:
    """The table without the rows of `details`, each noted with its detail."""
    for row, detail in sorted(details.items()):
        drops.add("problem", reason, _id(table, row), detail=detail)
    return table.take([row for row in range(table.num_rows) if row not in details])
