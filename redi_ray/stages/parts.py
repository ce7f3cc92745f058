"""A table cut into parts of about equal size, and the rows of one, a batch in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pyarrow.parquet as pq

from redi_ray.errors import storage_errors
from redi_ray.store import storage

PART_BYTES = 16 << 20
"""Of a table, uncompressed, for one part."""
MOST_PARTS = 256
"""Each is a file that the join holds open; beyond, parts are larger."""
MOST_SLICES = 16
"""Parts of one row group; each reads it from its beginning."""
BATCH_BYTES = 4 << 20
"""Of a table, uncompressed, in memory at a time."""
BATCH_ROWS = 512


@dataclass(frozen=True)
class Piece:
    """Rows `[start, stop)` of a row group."""

    uri: str
    row_group: int
    start: int
    stop: int
    row_bytes: int
    """About, of a row, uncompressed."""


@dataclass(frozen=True)
class Part:
    """What one task tokenises."""

    name: str
    pieces: tuple[Piece, ...]

    @property
    def rows(self) -> int:
        return sum(piece.stop - piece.start for piece in self.pieces)


def plan_parts(files: Sequence[str]) -> list[Part]:
    """The table cut into parts, in its order. Raises StorageError for a file that cannot be read."""
    groups = [(uri, *found) for uri in files for found in _row_groups(uri)]
    least = max(PART_BYTES, sum(size for *_, size in groups) // MOST_PARTS)
    parts: list[list[Piece]] = [[]]
    filled = 0
    for uri, number, rows, size in groups:
        slices = max(1, min(size // least, MOST_SLICES, rows))
        borders = [rows * at // slices for at in range(slices + 1)]
        for start, stop in pairwise(borders):
            if filled + size // slices > least and parts[-1]:
                parts.append([])
                filled = 0
            parts[-1].append(Piece(uri, number, start, stop, max(1, size // max(1, rows))))
            filled += size // slices
    return [Part(f"{at:05d}-{_name(pieces)}", tuple(pieces)) for at, pieces in enumerate(parts) if pieces]


def _row_groups(uri: str) -> Iterator[tuple[int, int, int]]:
    """Number, rows and uncompressed bytes of a file's row groups."""
    fs, path = storage.filesystem(uri)
    with storage_errors("read", uri), fs.open_input_file(path) as source:
        metadata = pq.ParquetFile(source).metadata
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            yield number, group.num_rows, group.total_byte_size


def _name(pieces: Sequence[Piece]) -> str:
    """So that a part of other borders is not taken for this one; where the files lie does not count."""
    told = [[piece.uri.rsplit("/", 1)[-1], piece.row_group, piece.start, piece.stop] for piece in pieces]
    return storage.content_hash(told)[:8]


def read_piece(piece: Piece, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The piece's rows and their numbers in the row group, a batch in memory at a time."""
    fs, path = storage.filesystem(piece.uri)
    size = max(1, min(BATCH_ROWS, BATCH_BYTES // piece.row_bytes))
    with storage_errors("read", piece.uri), fs.open_input_file(path) as source:
        file = pq.ParquetFile(source, buffer_size=1 << 20)
        known = [name for name in columns if name in file.schema_arrow.names]
        number = 0
        for batch in file.iter_batches(size, row_groups=[piece.row_group], columns=known):
            first, last = max(piece.start - number, 0), min(piece.stop - number, batch.num_rows)
            for at, row in enumerate(batch.slice(first, last - first).to_pylist() if first < last else ()):
                yield number + first + at, row
            number += batch.num_rows
            if number >= piece.stop:
                return
