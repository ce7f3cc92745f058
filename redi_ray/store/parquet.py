"""Parquet files, local and on S3: written whole, read a few rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from redi_ray.errors import storage_errors
from redi_ray.store.storage import filesystem, write_bytes

BATCH_BYTES = 4 << 20
"""Of rows unpacked at a time."""
BATCH_ROWS = 512


def write_table(uri: str, table: pa.Table) -> None:
    """Write one Parquet file atomically, in row groups of about BATCH_BYTES, so that a reader need not hold it whole."""
    with table_writer(uri, table.schema) as write:
        write(table)


@contextmanager
def table_writer(uri: str, schema: pa.Schema) -> Iterator[Callable[[pa.Table], None]]:
    """What adds rows to a Parquet file that appears, whole, after the block; it is held in memory, compressed, until then."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:

        def write(table: pa.Table) -> None:
            if table.num_rows:
                writer.write_table(table, row_group_size=_rows_of(BATCH_BYTES, table.num_rows, table.nbytes))

        yield write
    write_bytes(uri, sink.getvalue())


def read_tables(uris: list[str], columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The Parquet files one by one."""
    for uri in uris:
        fs, path = filesystem(uri)
        with storage_errors("read", uri):
            table = pq.read_table(path, filesystem=fs, columns=columns, partitioning=None)
        yield table


def read_schema(uri: str) -> pa.Schema:
    """Of a Parquet file."""
    fs, path = filesystem(uri)
    with storage_errors("read", uri), fs.open_input_file(path) as source:
        return pq.read_schema(source)


def count_rows(uri: str) -> int:
    """Of a Parquet file, by its footer."""
    fs, path = filesystem(uri)
    with storage_errors("read", uri), fs.open_input_file(path) as source:
        return int(pq.ParquetFile(source).metadata.num_rows)


def read_batches(uri: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The rows of a Parquet file in order, about BATCH_BYTES and at most BATCH_ROWS of them at a time."""
    fs, path = filesystem(uri)
    with storage_errors("read", uri), fs.open_input_file(path) as source:
        file = pq.ParquetFile(source)
        groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
        parts = [group.column(index) for group in groups for index in range(group.num_columns)]
        size = sum(
            part.total_uncompressed_size
            for part in parts
            if columns is None or part.path_in_schema.partition(".")[0] in columns
        )
        rows = min(BATCH_ROWS, _rows_of(BATCH_BYTES, file.metadata.num_rows, size))
        for batch in file.iter_batches(rows, columns=None if columns is None else list(columns)):
            yield pa.Table.from_batches([batch])


def read_rows(
    uri: str, rows: Iterable[int], columns: Sequence[str] | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number, row) of some rows of a Parquet file, in its order. Only row groups that hold one are read."""
    wanted, fs, path = sorted(set(rows)), *filesystem(uri)
    names = None if columns is None else list(columns)
    with storage_errors("read", uri), fs.open_input_file(path) as source:
        file, first = pq.ParquetFile(source), 0
        for number in range(file.num_row_groups):
            after = first + file.metadata.row_group(number).num_rows
            mine = [row - first for row in wanted if first <= row < after]
            start = 0
            for batch in file.iter_batches(BATCH_ROWS, row_groups=[number], columns=names) if mine else ():
                here = [row - start for row in mine if start <= row < start + batch.num_rows]
                for offset, value in zip(here, batch.take(pa.array(here, pa.int64())).to_pylist(), strict=True):
                    yield first + start + offset, value
                start += batch.num_rows
                if start > mine[-1]:
                    break
            first = after


def _rows_of(size: int, rows: int, total: int) -> int:
    """How many of `rows`, which have `total` bytes, have about `size`; 1 at least."""
    return max(1, size * rows // max(1, total))
