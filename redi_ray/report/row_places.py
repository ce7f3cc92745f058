"""Rows by where they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby
from typing import Any

from redi_ray.report.filters import BrowseError
from redi_ray.report.row_tables import RowTable
from redi_ray.report.scan import Shard, layout_of, numbers_of, opened, rows_of_group
from redi_ray.report.side_by_side import in_order, threads

LARGE = {"completion", "turns", "token_ids", "logps", "sampling", "raw", "token_weights", "token_columns"}
"""Columns that a list of rows does without."""


@dataclass(frozen=True, order=True)
class Place:
    """Where a row is: a file, by its name within the table, and the row in it, 0, 1, ..."""

    shard: str
    row: int

    def __str__(self) -> str:
        return f"{self.shard}:{self.row}"

    @classmethod
    def parse(cls, text: str) -> Place:
        """Raises BrowseError for what is no place."""
        shard, _, row = text.rpartition(":")
        if not shard or not row.lstrip("-").isdecimal():
            raise BrowseError(f"{text!r} is no place of a row; it is FILE:ROW, as links have it")
        return cls(shard, int(row))


@dataclass(frozen=True)
class Row:
    """A row and where it is."""

    place: Place
    values: dict[str, Any]
    excerpt: str = ""
    """Where the text that was searched for stands."""
    numbers: dict[str, float | None] = field(default_factory=dict)
    """What columns beside it say, where that is a number."""


def read_places(table: RowTable, places: Sequence[Place], excerpts: dict[Place, str] | None = None) -> list[Row]:
    """The rows at some places, in their order, without their long texts."""
    by_shard = [(name, [one.row for one in group]) for name, group in groupby(places, key=lambda place: place.shard)]

    def read(item: tuple[str, list[int]]) -> list[Row]:
        name, rows = item
        shard = table.shard(name)
        values = read_rows(shard, rows, large=False)
        numbers = {column: numbers_of(shard.columns[column]) for column in table.numeric}
        return [
            Row(place, values[place.row], (excerpts or {}).get(place, ""), _numbers(numbers, place.row))
            for place in (Place(name, row) for row in rows)
        ]

    with threads(table.root) as pool:
        return [row for found in in_order(pool, read, by_shard) for row in found]


def _numbers(columns: dict[str, Any], row: int) -> dict[str, float | None]:
    return {name: None if values[row] != values[row] else float(values[row]) for name, values in columns.items()}


def read_rows(shard: Shard, rows: Sequence[int], *, large: bool) -> dict[int, dict[str, Any]]:
    """Row -> its values; large: with its long texts. Raises BrowseError."""
    found, wanted = dict[int, dict[str, Any]](), sorted(rows)
    with opened(shard.file) as file:
        cut = layout_of(file)
        names = [name for name in cut.schema.names if large or name not in LARGE]
        for group, (start, count) in enumerate(zip(cut.starts, cut.rows, strict=True)):
            mine = [row for row in wanted if start <= row < start + count]
            read = chain.from_iterable(rows_of_group(file, group, [row - start for row in mine], names))
            found |= dict(zip(mine, read, strict=True))
    if lacking := [row for row in wanted if row not in found]:
        raise BrowseError(f"{shard.uri}: no row {lacking[0]}; it has {sum(cut.rows)}")
    return found
