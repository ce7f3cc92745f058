"""Which samples a step `select` keeps: the best by a column, those within bounds, or some by chance.

One task holds an id and a number of every sample, and no texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from redi_ray.config.selection import KeptSamples
from redi_ray.data.columns import beside
from redi_ray.data.curate.work import order_key
from redi_ray.schemas import trace_id
from redi_ray.store import parquet

SEEN = pa.schema(
    [
        pa.field("problem_id", pa.string(), nullable=False),
        pa.field("sample_index", pa.int64(), nullable=False),
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("number", pa.float64()),
    ]
)
"""What is read of a sample; its number is null where there is none, or no column."""


def reasons_of_samples(
    shards: Sequence[str], columns: Sequence[str], like: Sequence[str], wanted: KeptSamples
) -> Iterator[list[str]]:
    """Why each sample goes, empty for those that stay, shard by shard in the order of their rows.

    columns: shards of the column, one for each of the samples', or none at all. like: shards of the step as many of whose samples
    are taken.
    """
    parts = [_seen(shard, columns[at] if columns else None) for at, shard in enumerate(shards)]
    most = wanted.overall if wanted.like is None else sum(map(_rows, like))
    why = reasons_for(pa.concat_tables([SEEN.empty_table(), *parts]), wanted, most, scored=bool(columns))
    start = 0
    for part in parts:
        yield why[start : start + part.num_rows]
        start += part.num_rows


def reasons_for(samples: pa.Table, wanted: KeptSamples, most: int | None, *, scored: bool) -> list[str]:
    """Why each row of SEEN goes. most: samples at the most, None for any number. scored: whether a column gives the numbers."""
    why = _unfit(samples, wanted, scored)
    places = _ordered(samples, np.flatnonzero(why == ""), wanted)
    if wanted.per_problem is not None:
        over = _rank_in_problem(samples["problem_id"].take(pa.array(places))) >= wanted.per_problem
        why[places[over]] = "over_per_problem"
        places = places[~over]
    if most is not None:
        why[places[most:]] = "over_overall"
    return why.tolist()


def _seen(shard: str, column: str | None) -> pa.Table:
    found = [SEEN.empty_table()]
    for rows, columns in beside(shard, [] if column is None else [column], SEEN.names[:-1]):
        number = columns[0]["value"].cast(pa.float64()) if columns else pa.nulls(rows.num_rows, pa.float64())
        found.append(rows.select(SEEN.names[:-1]).append_column("number", number).cast(SEEN))
    return pa.concat_tables(found)


def _rows(shard: str) -> int:
    return sum(batch.num_rows for batch in parquet.read_batches(shard, ["sample_index"]))


def _unfit(samples: pa.Table, wanted: KeptSamples, scored: bool) -> np.ndarray:
    """`[samples]` the reasons of those that do not come into question, which do not depend on the others; empty for the rest."""
    why = np.full(samples.num_rows, "", dtype=object)
    numbers = samples["number"].to_numpy()  # NaN where there is none
    if wanted.at_most is not None:
        why[numbers > wanted.at_most] = "too_high"
    if wanted.at_least is not None:
        why[numbers < wanted.at_least] = "too_low"
    if scored:
        why[np.isnan(numbers)] = "no_score"
    if wanted.verdicts is not None:
        for verdict in pc.unique(samples["verdict"]).to_pylist():
            if verdict not in wanted.verdicts:
                why[pc.equal(samples["verdict"], verdict).to_numpy()] = f"verdict_{verdict}"
    return why


def _ordered(samples: pa.Table, places: np.ndarray, wanted: KeptSamples) -> np.ndarray:
    """These places, those that stay sooner first; equals by problem and sample index."""
    rows = samples.take(pa.array(places))
    keys = [("problem_id", "ascending"), ("sample_index", "ascending")]
    if wanted.order == "random":
        ids = zip(rows["problem_id"].to_pylist(), rows["sample_index"].to_pylist(), strict=True)
        drawn = [order_key(wanted.seed, trace_id(*each)) for each in ids]
        rows = rows.append_column("drawn", pa.array(drawn, pa.string()))
        keys = [("drawn", "ascending"), *keys]
    else:
        keys = [("number", "descending" if wanted.order == "highest" else "ascending"), *keys]
    return places[pc.sort_indices(rows, sort_keys=keys).to_numpy()]


def _rank_in_problem(problems: pa.ChunkedArray) -> np.ndarray:
    """`[n]` how many of the same problem stand before each."""
    codes = pc.dictionary_encode(problems).combine_chunks().indices.to_numpy()
    together = np.argsort(codes, kind="stable")
    grouped = codes[together]
    starts = np.flatnonzero(np.r_[True, grouped[1:] != grouped[:-1]])[: len(codes)]
    lengths = np.diff(np.r_[starts, len(codes)])
    ranks = np.empty(len(codes), dtype=np.int64)
    ranks[together] = np.arange(len(codes)) - np.repeat(starts, lengths)
    return ranks
