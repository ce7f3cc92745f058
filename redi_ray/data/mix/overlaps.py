"""Problems that another source of a mixture holds out for development: by their texts, since a row without an answer cannot be
held out itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow.compute as pc

from redi_ray.store import parquet
from redi_ray.text.problem_key import problem_key

Left = dict[str, tuple[list[str], int]]
"""Source -> ids of its problems that must not be learnt from, and how many traces they have."""


def held_out_elsewhere(
    dev: Sequence[str], problems: Mapping[str, Sequence[str]], traces: Mapping[str, Sequence[str]]
) -> Left:
    """Of each source, by its shards of `problems`, those with the text of a problem in `dev`. traces: shards of its traces."""
    keys = {
        problem_key(text) for rows in parquet.read_tables([*dev], ["problem"]) for text in rows["problem"].to_pylist()
    }
    found: Left = {}
    for source, shards in problems.items():
        ids: list[str] = []
        for rows in parquet.read_tables([*shards], ["problem_id", "problem", "answer"]):
            without = rows.filter(pc.is_null(rows["answer"]))
            pairs = zip(without["problem_id"].to_pylist(), without["problem"].to_pylist(), strict=True)
            ids += [name for name, text in pairs if problem_key(text) in keys]
        if ids:
            wanted = set(ids)
            columns = parquet.read_tables([*traces.get(source, ())], ["problem_id"])
            count = sum(name in wanted for rows in columns for name in rows["problem_id"].to_pylist())
            found[source] = ids, count
    return found
