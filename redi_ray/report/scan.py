"""Looking through Parquet files for rows: in order, several files side by side, for as long as there is time.

Of a group of rows the small columns that a filter names are read first, and texts only where these let something through; groups
whose statistics rule the filter out are not read at all. What is in memory is a group of rows for each thread.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from redi_ray.report.excerpts import excerpt
from redi_ray.report.filters import BrowseError, TraceFilter
from redi_ray.report.footers import FOOTERS
from redi_ray.report.plain import plain_rows
from redi_ray.store import storage
from redi_ray.store.storage import File

UNIT_BYTES = 32 << 20
"""Of a file that one thread looks through at a time; smaller files are not cut."""
BATCH_BYTES = 8 << 20
"""Of texts unpacked at a time, where a group of rows has more."""
BATCH_ROWS = 64
"""Of rows unpacked at a time."""
VALUE = "value"
"""Of a column beside samples: its number."""


@dataclass(frozen=True)
class Shard:
    """A file of rows, and columns beside it: name -> shard with the same rows."""

    file: File
    columns: Mapping[str, str] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        return self.file.uri


@dataclass(frozen=True)
class Layout:
    """How a Parquet file is cut."""

    schema: pa.Schema
    rows: tuple[int, ...]
    """Of each group."""
    sizes: tuple[int, ...]
    """Bytes of each group, unpacked."""

    @property
    def starts(self) -> list[int]:
        """The first row of each group."""
        return [0, *accumulate(self.rows)][:-1]


@dataclass(frozen=True)
class Unit:
    """What one thread looks through: a file, or some of its groups of rows."""

    number: int
    """Of the shard."""
    shard: Shard
    groups: tuple[int, int] | None = None
    """The first, and behind the last; None: all."""

    @property
    def key(self) -> tuple[File, int]:
        return self.shard.file, self.groups[0] if self.groups else 0


@dataclass
class Found:
    """What was found in a unit."""

    unit: Unit
    rows: list[int] = field(default_factory=list)
    """Numbers within the file, in the order that was asked for."""
    excerpts: dict[int, str] = field(default_factory=dict)
    """Row -> where the text stands in it."""
    broken_off: int | None = None
    """The last row (backwards: the first) of those that were looked at, where time was up. None: all were."""
    looked: int = 0
    """Rows that were looked at."""


@contextmanager
def opened(file: File) -> Iterator[pq.ParquetFile]:
    """A Parquet file. Raises BrowseError where it cannot be read."""
    try:
        fs, path = storage.filesystem(file.uri)
        with fs.open_input_file(path) as source:
            found = pq.ParquetFile(source, metadata=FOOTERS.get(file), pre_buffer=file.uri.startswith("s3://"))
            FOOTERS.keep(file, found.metadata)
            yield found
    except (pa.ArrowException, OSError) as error:
        raise BrowseError(f"{file.uri}: cannot be read as Parquet ({error})") from error


@lru_cache(maxsize=4096)
def layout(file: File) -> Layout:
    """How a file is cut; files do not change once they are there, and a new one has another size or time."""
    with opened(file) as found:
        return layout_of(found)


def layout_of(file: pq.ParquetFile) -> Layout:
    """Of a file that is open."""
    groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
    return Layout(
        file.schema_arrow, tuple(group.num_rows for group in groups), tuple(group.total_byte_size for group in groups)
    )


@lru_cache(maxsize=256)
def numbers_of(uri: str) -> np.ndarray:
    """The numbers of a column's shard `[rows]` float64, NaN where there is none. Raises BrowseError where it has no numbers."""
    with opened(File(uri, 0, 0)) as file:  # a finished column stays as it is
        schema = file.schema_arrow
        kind = schema.field(VALUE).type if VALUE in schema.names else None
        if kind is None or not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
            raise BrowseError(f"{uri}: a column without a number for each row ({', '.join(schema.names)})")
        return file.read([VALUE])[VALUE].to_numpy().astype(np.float64)


def units_of(shards: Sequence[Shard]) -> Iterator[Unit]:
    """The shards in pieces, in order."""
    for number, shard in enumerate(shards):
        if shard.file.size <= UNIT_BYTES:
            yield Unit(number, shard)
            continue
        cut, first, size = layout(shard.file), 0, 0
        for group, bytes_of in enumerate(cut.sizes):
            size += bytes_of
            if size >= UNIT_BYTES or group + 1 == len(cut.sizes):
                yield Unit(number, shard, (first, group + 1))
                first, size = group + 1, 0


def look(
    unit: Unit,
    wanted: TraceFilter,
    *,
    until: float = float("inf"),
    at: int | None = None,
    backwards: bool = False,
    excerpts: int = 0,
    at_least_one: bool = False,
) -> Found:
    """The rows of a unit that a filter lets through.

    until: when to break off, by `time.monotonic`; at_least_one: not before one group of rows. at: begin behind this row (before
    it, if looking backwards). excerpts: how many matches of a text are quoted. Raises BrowseError.
    """
    found = Found(unit)
    with opened(unit.shard.file) as file:
        cut = layout_of(file)
        wanted.check(cut.schema)
        starts, (first, last) = cut.starts, unit.groups or (0, len(cut.rows))
        order = range(last - 1, first - 1, -1) if backwards else range(first, last)
        began = False
        for group in order:
            start, stop = starts[group], starts[group] + cut.rows[group]
            if at is not None and (start >= at if backwards else stop <= at + 1):
                continue
            numbers_beside(unit.shard, wanted)  # read apart from the rows, so that time is looked at between the two
            if time.monotonic() > until and (began or not at_least_one):
                found.broken_off = stop if backwards else start - 1
                return found
            began = True
            _look_into(file, group, start, wanted, found, at, backwards, excerpts)
            found.looked += cut.rows[group]
    return found


def matches(shard: Shard, wanted: TraceFilter, limit: int | None = None) -> Iterator[list[dict[str, Any]]]:
    """The first rows of a shard that a filter lets through, all their columns, a few at a time. Raises BrowseError."""
    left = limit
    with opened(shard.file) as file:
        cut = layout_of(file)
        wanted.check(cut.schema)
        for group, start in enumerate(cut.starts):
            found = Found(Unit(0, shard))
            _look_into(file, group, start, wanted, found, None, False, 0)
            rows = found.rows[:left]
            yield from rows_of_group(file, group, [row - start for row in rows])
            left = None if left is None else left - len(rows)
            if left == 0:
                return


def rows_of_group(
    file: pq.ParquetFile, group: int, rows: Sequence[int], columns: Sequence[str] | None = None
) -> Iterator[list[dict[str, Any]]]:
    """Some rows of a group, by their numbers in it, ascending; a few at a time."""
    start = 0
    size, count = max(1, file.metadata.row_group(group).total_byte_size), file.metadata.row_group(group).num_rows
    batch_rows = max(1, min(BATCH_ROWS, BATCH_BYTES * count // size))
    names = None if columns is None else list(columns)
    for batch in file.iter_batches(batch_rows, row_groups=[group], columns=names, use_threads=False) if rows else ():
        mine = [row - start for row in rows if start <= row < start + batch.num_rows]
        if mine:
            yield plain_rows(batch.take(pa.array(mine, pa.int64())))
        start += batch.num_rows
        if start > rows[-1]:
            return


def _look_into(
    file: pq.ParquetFile,
    group: int,
    start: int,
    wanted: TraceFilter,
    found: Found,
    at: int | None,
    backwards: bool,
    excerpts: int,
) -> None:
    count = file.metadata.row_group(group).num_rows
    mask = small_mask(file, group, start, wanted, found.unit.shard)
    if at is not None:
        numbers = np.arange(start, start + count)
        mask &= numbers < at if backwards else numbers > at
    if wanted.reads_texts and mask.any():
        mask = _by_texts(file, group, start, wanted, mask, found, excerpts)
    rows = (start + np.flatnonzero(mask)).tolist()
    found.rows += reversed(rows) if backwards else rows


def small_mask(file: pq.ParquetFile, group: int, start: int, wanted: TraceFilter, shard: Shard) -> np.ndarray:
    """Which rows of a group small columns, and numbers beside them, let through `[rows]`."""
    rows = file.metadata.row_group(group).num_rows
    names = wanted.small_columns(file.schema_arrow)
    if not wanted.may_hold(_bounds(file, group, names)):
        return np.zeros(rows, bool)
    mask = np.ones(rows, bool)
    for column, values in numbers_beside(shard, wanted).items():
        if len(values) != file.metadata.num_rows:
            raise BrowseError(
                f"{shard.columns[column]}: {len(values)} rows beside {file.metadata.num_rows}; make it again"
            )
        beside = pa.array(values[start : start + rows], from_pandas=True)
        mask &= wanted.scores[column].holds(beside).to_numpy(zero_copy_only=False)
    if names and mask.any():
        mask &= wanted.small(file.read_row_group(group, columns=names)).to_numpy(zero_copy_only=False)
    return mask


def numbers_beside(shard: Shard, wanted: TraceFilter) -> dict[str, np.ndarray]:
    """The columns of numbers that a filter names, `[rows of the file]` each. Raises BrowseError."""
    if missing := [column for column in wanted.scores if column not in shard.columns]:
        there = ", ".join(shard.columns) or "none"
        raise BrowseError(f"no column {missing[0]} with numbers beside these rows; there are {there}")
    return {column: numbers_of(shard.columns[column]) for column in wanted.scores}


def _bounds(file: pq.ParquetFile, group: int, names: Sequence[str]) -> dict[str, tuple[Any, Any]]:
    """Column -> its least and its greatest value, as far as the file says them."""
    of_group, found = file.metadata.row_group(group), dict[str, tuple[Any, Any]]()
    for index in range(of_group.num_columns) if names else ():
        column = of_group.column(index)
        if column.path_in_schema in names and (told := column.statistics) is not None and told.has_min_max:
            found[column.path_in_schema] = (told.min, told.max)
    return found


def _by_texts(
    file: pq.ParquetFile, group: int, start: int, wanted: TraceFilter, mask: np.ndarray, found: Found, excerpts: int
) -> np.ndarray:
    """The same mask without the rows whose texts are not let through."""
    size, done = max(1, file.metadata.row_group(group).total_byte_size), 0
    batch_rows = max(1, min(len(mask), BATCH_BYTES * len(mask) // size))
    kept = np.zeros(len(mask), bool)
    names = wanted.large_columns(file.schema_arrow)
    for batch in file.iter_batches(batch_rows, row_groups=[group], columns=names, use_threads=False):
        part = slice(done, done + batch.num_rows)
        if mask[part].any():
            kept[part] = mask[part] & wanted.large(batch).to_numpy(zero_copy_only=False)
            for row in np.flatnonzero(kept[part]).tolist() if wanted.text else ():
                if len(found.excerpts) >= excerpts:
                    break
                found.excerpts[start + done + row] = excerpt(plain_rows(batch.slice(row, 1))[0], wanted.text or "")
        done += batch.num_rows
        if not mask[done:].any():
            break
    return kept
