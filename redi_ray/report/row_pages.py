"""Pages of rows: some at a time, from a place on, with how many there are as far as that is known.

A place is a file's name and a row in it, so that a page's link holds while a run goes on: what was there before stays where it
is, whatever files come. Each page has a time, and says how far it has looked when that is up. What was counted is kept, so that a
count that took too long for one page is whole after some.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, groupby
from threading import Semaphore
from typing import Any

from redi_ray.report.filters import BrowseError, TraceFilter
from redi_ray.report.row_tables import RowTable
from redi_ray.report.scan import (
    UNIT_BYTES,
    Found,
    Shard,
    Unit,
    in_order,
    layout,
    layout_of,
    look,
    numbers_of,
    opened,
    rows_of_group,
    threads,
    units_of,
)
from redi_ray.store.storage import File

PAGE_ROWS = 50
SECONDS, TEXT_SECONDS, MOST_SECONDS = 0.4, 3.0, 60.0
"""What a page may take to look through small columns, through texts, and at the most if asked to."""
AT_A_TIME = Semaphore(4)
"""Pages that are looked for at a time, which bounds the memory."""
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


@dataclass(frozen=True)
class Page:
    """Some rows, and the way to the others."""

    rows: list[Row]
    previous: Place | None
    """The page before ends before this row; None where this is the first."""
    following: Place | None
    """The page after begins behind this row; None where this is the last."""
    further: Place | None
    """Time was up here before the page was full: looking goes on from here."""
    count: int
    """Rows that the filter lets through, as far as was counted."""
    whole: bool
    """Whether all were counted."""
    looked: float
    """Share of the files, by size, that was looked through for the count, 0 to 1."""


@lru_cache(maxsize=64)
def _known(root: str, wanted: str) -> dict[tuple[File, int], int]:
    """What was counted before: unit -> rows. root: of the table; wanted: the filter's key."""
    return {}


@dataclass
class _Search:
    """One page being looked for."""

    table: RowTable
    wanted: TraceFilter
    limit: int
    at: Place | None
    backwards: bool
    until: float
    places: list[Place] = field(default_factory=list)
    excerpts: dict[Place, str] = field(default_factory=dict)
    further: Place | None = None
    """Where time was up before the page was full."""
    stopped_at: Place | None = None
    """Where time was up before a unit was begun."""

    @property
    def full(self) -> bool:
        """One row more than is shown tells that there are more."""
        return len(self.places) > self.limit

    def work(self, unit: Unit) -> Found | None:
        """Look through a unit; None where it was counted before and its rows are not needed."""
        known = self.known.get(unit.key)
        if known is not None and (known == 0 or self.full or not self._is_ahead(unit)):
            return None
        here = self.at is not None and self._name(unit) == self.at.shard and self._is_ahead(unit)
        found = look(
            unit,
            self.wanted,
            until=self.until,
            at=self.at.row if here and self.at else None,
            backwards=self.backwards,
            excerpts=self.limit + 1,
            at_least_one=unit.key == self.first,
        )
        if found.broken_off is None and not here:
            self.known[unit.key] = len(found.rows)
        return found

    def __post_init__(self) -> None:
        self.known = _known(self.table.root, self.wanted.key)
        with threads(self.table.root) as pool:  # on S3 each takes a while
            list(pool.map(layout, [shard.file for shard in self.table.shards if shard.file.size > UNIT_BYTES]))
        self.units = list(units_of(self.table.shards))
        ahead = [unit for unit in self.units if self._is_ahead(unit)]
        self.ahead = ahead[::-1] if self.backwards else ahead
        self.first = next((unit.key for unit in self.ahead if self.known.get(unit.key) != 0), None)

    def _name(self, unit: Unit) -> str:
        return self.table.name_of(unit.shard)

    def _is_ahead(self, unit: Unit) -> bool:
        """Whether rows of the page may be in it."""
        if self.at is None:
            return True
        name = self._name(unit)
        if name != self.at.shard or unit.groups is None:
            return name <= self.at.shard if self.backwards else name >= self.at.shard
        starts = [*layout(unit.shard.file).starts, sum(layout(unit.shard.file).rows)]
        first, behind = (starts[group] for group in unit.groups)
        return first < self.at.row if self.backwards else behind > self.at.row + 1

    def run(self) -> None:
        """Collect the page's rows, then count with the time that is left. Raises BrowseError."""
        ahead = {unit.key for unit in self.ahead}
        behind = [unit for unit in self.units if unit.key not in ahead]
        with threads(self.table.root) as pool:
            for found in in_order(pool, self.work, self._while_time([*self.ahead, *behind])):
                if found is not None and not self.full and self.further is None and self._is_ahead(found.unit):
                    self._take(found)
        if not self.full and self.further is None:
            self.further = self.stopped_at

    def _while_time(self, units: Sequence[Unit]) -> Iterator[Unit]:
        for number, unit in enumerate(units):
            if number and time.monotonic() > self.until:
                if self._is_ahead(unit):
                    self.stopped_at = self._edge(unit)
                return
            yield unit

    def _edge(self, unit: Unit) -> Place:
        """The place before a unit (behind it, if looking backwards)."""
        if unit.groups is None:
            return Place(self._name(unit), 1 << 60 if self.backwards else -1)
        starts = [*layout(unit.shard.file).starts, sum(layout(unit.shard.file).rows)]
        first, behind = (starts[group] for group in unit.groups)
        return Place(self._name(unit), behind if self.backwards else first - 1)

    def _take(self, found: Found) -> None:
        name = self._name(found.unit)
        for row in found.rows[: self.limit + 1 - len(self.places)]:
            place = Place(name, row)
            self.places.append(place)
            if row in found.excerpts:
                self.excerpts[place] = found.excerpts[row]
        if not self.full and found.broken_off is not None:
            self.further = Place(name, found.broken_off)


def page(
    table: RowTable,
    wanted: TraceFilter,
    *,
    after: Place | None = None,
    before: Place | None = None,
    limit: int = PAGE_ROWS,
    seconds: float | None = None,
) -> Page:
    """The rows behind the place `after`, or those before `before`, or the first ones; without their long texts.

    seconds: to look for; None takes what is usual for such a filter. Raises BrowseError.
    """
    usual = TEXT_SECONDS if wanted.reads_texts else SECONDS
    with AT_A_TIME:
        until = time.monotonic() + min(MOST_SECONDS, usual if seconds is None else seconds)
        search = _Search(table, wanted, limit, before or after, before is not None, until)
        search.run()
        places = search.places[:limit]
        if search.backwards:
            places.reverse()
        rows = read_places(table, places, search.excerpts)
    more = search.full or search.further is not None
    counted = [unit for unit in search.units if unit.key in search.known]
    sizes = {unit.key: _size(unit) for unit in search.units}
    return Page(
        rows=rows,
        previous=places[0] if places and (more if search.backwards else after is not None) else None,
        following=places[-1] if places and (search.backwards or search.full) else None,
        further=search.further,
        count=max(sum(search.known[unit.key] for unit in counted), len(search.places)),
        whole=len(counted) == len(search.units),
        looked=sum(sizes[unit.key] for unit in counted) / max(1, sum(sizes.values())),
    )


def _size(unit: Unit) -> float:
    if unit.groups is None:
        return unit.shard.file.size
    sizes = layout(unit.shard.file).sizes
    return unit.shard.file.size * sum(sizes[slice(*unit.groups)]) / max(1, sum(sizes))


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
    with opened(shard.uri) as file:
        cut = layout_of(file)
        names = [name for name in cut.schema.names if large or name not in LARGE]
        for group, (start, count) in enumerate(zip(cut.starts, cut.rows, strict=True)):
            mine = [row for row in wanted if start <= row < start + count]
            read = chain.from_iterable(rows_of_group(file, group, [row - start for row in mine], names))
            found |= dict(zip(mine, read, strict=True))
    if lacking := [row for row in wanted if row not in found]:
        raise BrowseError(f"{shard.uri}: no row {lacking[0]}; it has {sum(cut.rows)}")
    return found


def find_row(table: RowTable, name: str, hint: Place | None = None) -> Place:
    """Where the row with this id is. hint: where it was. Raises BrowseError where it is not there, or not found in time."""
    column = table.id_column
    if column is None:
        if hint is None:
            raise BrowseError(f"rows of {table.table} have no ids; a link to one says its place")
        return hint
    if hint is not None and hint.shard in table.by_name:
        try:
            if read_places(table, [hint])[0].values.get(column) == name:
                return hint
        except BrowseError:
            pass  # the file has been made again
    found = page(table, TraceFilter(among={column: [name]}), limit=1, seconds=20)
    if not found.rows:
        why = "" if found.further is None else f", as far as was looked ({found.looked:.0%} of the files)"
        raise BrowseError(f"{table.step} has no row {name!r}{why}; the step may have been made anew since the link was")
    return found.rows[0].place
