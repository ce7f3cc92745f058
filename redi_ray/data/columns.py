"""Columns: what is learnt later about samples, in tables of their own beside them.

A column has the shards of its samples, by the same names, and in each the same rows in the same order, keyed by `trace_id`; so
samples and any number of columns are read side by side, a few rows at a time, and nothing is joined. Its schema says at which
grain it is (`redi_ray.schemas.column`). Verdicts are no such column: people look at verified tables, which hold them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from redi_ray.errors import UserError
from redi_ray.schemas import GRAIN, TOKENIZER
from redi_ray.store import parquet

KEY = "trace_id"
AGAIN = "make the column again, of the step whose samples these are"


class ColumnError(UserError):
    """A column that does not belong to these samples, or is not what is asked for; the message says where it shows."""


def write_column(
    samples: str,
    out: str,
    schema: pa.Schema,
    read: Sequence[str],
    values: Callable[[pa.Table], list[dict[str, Any]]],
    columns: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Write a shard's column to `out`, in row groups as the samples are read; how many rows it has.

    samples: the shard. read: its columns that `values` looks at. values: rows of samples -> as many rows of `schema` without the
    key. columns: shards of other columns of theirs, whose values stand in the rows under these names. Raises ColumnError where
    one is of other samples.
    """
    rows = 0
    with parquet.table_writer(out, schema) as write:
        for batch, others in beside(samples, list(columns.values()), read):
            told = batch
            for name, other in zip(columns, others, strict=True):
                told = told.append_column(name, other.column(1))  # behind the key
            made = values(told)
            assert len(made) == batch.num_rows, f"{samples}: {len(made)} values for {batch.num_rows} samples"
            keyed = [{**value, KEY: key} for key, value in zip(batch[KEY].to_pylist(), made, strict=True)]
            write(pa.Table.from_pylist(keyed, schema=schema))
            rows += batch.num_rows
    return rows


def beside(samples: str, columns: Sequence[str], read: Sequence[str]) -> Iterator[tuple[pa.Table, list[pa.Table]]]:
    """(rows of a shard of samples, the same rows of each column's shard), a few rows at a time.

    read: columns of the samples. Raises ColumnError, with file and row, where they are not of the same samples.
    """
    cursors = [_Cursor(column) for column in columns]
    start = 0
    for batch in parquet.read_batches(samples, list(dict.fromkeys([KEY, *read]))):
        found = []
        for cursor in cursors:
            rows = cursor.take(batch.num_rows)
            _check(samples, start, batch[KEY], cursor.uri, rows[KEY])
            found.append(rows)
        yield batch, found
        start += batch.num_rows
    for cursor in cursors:
        if cursor.take(1).num_rows:
            raise ColumnError(f"{cursor.uri} has more rows than the {start} of {samples}: {AGAIN}")


def _check(samples: str, start: int, keys: pa.ChunkedArray, column: str, found: pa.ChunkedArray) -> None:
    if keys.equals(found):
        return
    wanted, there = keys.to_pylist(), found.to_pylist()
    row = next((n for n, (one, other) in enumerate(zip(wanted, there, strict=False)) if one != other), len(there))
    told = f"is of {there[row]}" if row < len(there) else "is missing"
    raise ColumnError(f"{column}: row {start + row} {told}, and in {samples} it is {wanted[row]}: {AGAIN}")


class _Cursor:
    """Reads a shard in pieces of any number of rows."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._batches = parquet.read_batches(uri)
        self._rest = parquet.read_schema(uri).empty_table()

    def take(self, rows: int) -> pa.Table:
        """The next rows, fewer at the end."""
        found = [self._rest]
        while sum(map(len, found)) < rows and (batch := next(self._batches, None)) is not None:
            found.append(batch)
        table = pa.concat_tables(found)
        self._rest = table.slice(rows)
        return table.slice(0, rows)


def check_grain(uri: str, grain: str, tokenizer: str | None = None) -> None:
    """Raise ColumnError unless a column's shard is at this grain, of tokens by this tokenizer's fingerprint."""
    told = {name.decode(): value.decode() for name, value in (parquet.read_schema(uri).metadata or {}).items()}
    if told.get(GRAIN) != grain:
        raise ColumnError(f"{uri}: a column at grain {told.get(GRAIN, 'unknown')}; one at grain {grain} is needed here")
    if tokenizer is not None and told.get(TOKENIZER) != tokenizer:
        raise ColumnError(
            f"{uri}: values of the tokens of another tokenizer ({told.get(TOKENIZER)}, not {tokenizer}): make the column with "
            "the tokenizer of the model that is trained"
        )
