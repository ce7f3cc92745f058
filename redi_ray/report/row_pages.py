"""Pages of rows: some at a time, from a place on, with how many there are as far as that is known.

A place is a file's name and a row in it, so that a page's link holds while a run goes on: what was there before stays where it
is, whatever files come. Each page has a time, and says how far it has looked when that is up. What was found and counted is kept:
the same question goes on where it was, and what took too long for one page is whole after some.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from threading import Semaphore

from redi_ray.errors import UserError
from redi_ray.report.filters import BrowseError, TraceFilter
from redi_ray.report.looked import Asked, looked
from redi_ray.report.row_places import Place, Row, read_places
from redi_ray.report.row_tables import RowTable
from redi_ray.report.scan import UNIT_BYTES, Found, Unit, layout, look, units_of
from redi_ray.report.side_by_side import in_order, threads

PAGE_ROWS = 50
MOST_SECONDS = 60.0
"""What a page may take to look."""
AT_A_TIME = Semaphore(4)
"""Pages that are looked for at a time, which bounds the memory."""


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


class StillLooking(UserError):
    """Time was up before a row was found. The same question goes on where this one was."""

    def __init__(self, step: str, name: str, looked: float) -> None:
        super().__init__(f"{step} has no row {name!r}, as far as was looked ({looked:.0%} of the files)")
        self.name, self.looked = name, looked
        """Of the row; share of the files, 0 to 1."""


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
        if self.full and self.counted is not None:
            return None
        known = self.known.get(unit.key)
        if known is not None and (known == 0 or self.full or not self._is_ahead(unit)):
            return None
        asked = self._asked(unit)
        begun = self.looked.found(asked)
        if begun is not None and begun.broken_off is None:
            return begun
        if unit.key != self.first and time.monotonic() > self.until:  # it waited for a thread
            return begun or Found(unit, broken_off=self._edge(unit).row)
        at = asked[1] if begun is None else begun.broken_off
        found = look(
            unit,
            self.wanted,
            until=self.until,
            at=at,
            backwards=self.backwards,
            excerpts=self.limit + 1,
            at_least_one=unit.key == self.first,
        )
        if begun is not None:
            found.rows, found.excerpts = begun.rows + found.rows, begun.excerpts | found.excerpts
        if found.broken_off is None and asked[1] is None:
            self.known[unit.key] = len(found.rows)
        if not self.full and self._is_ahead(unit):
            self.looked.keep(asked, found)
        return found

    def __post_init__(self) -> None:
        self.counted = self.table.counted(self.wanted)
        self.looked = looked(self.table.root, self.wanted.key)
        self.known = self.looked.counts
        with threads(self.table.root) as pool:  # on S3 each takes a while
            list(pool.map(layout, [shard.file for shard in self.table.shards if shard.file.size > UNIT_BYTES]))
        self.units = list(units_of(self.table.shards))
        ahead = [unit for unit in self.units if self._is_ahead(unit)]
        self.ahead = ahead[::-1] if self.backwards else ahead
        self.first = next((unit.key for unit in self.ahead if not self._is_done(unit)), None)

    def _asked(self, unit: Unit) -> Asked:
        here = self.at is not None and self._name(unit) == self.at.shard and self._is_ahead(unit)
        return unit.key, self.at.row if here and self.at else None, self.backwards, self.limit

    def _is_done(self, unit: Unit) -> bool:
        """Whether all that is asked of it is known."""
        if not self._is_ahead(unit):
            return unit.key in self.known
        found = self.looked.found(self._asked(unit))
        return self.known.get(unit.key) == 0 or (found is not None and found.broken_off is None)

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
        behind = [unit for unit in self.units if unit.key not in ahead] if self.counted is None else []
        with threads(self.table.root) as pool:
            for found in in_order(pool, self.work, self._while_time([*self.ahead, *behind])):
                if found is not None and not self.full and self.further is None and self._is_ahead(found.unit):
                    self._take(found)
        if not self.full and self.further is None:
            self.further = self.stopped_at

    def _while_time(self, units: Sequence[Unit]) -> Iterator[Unit]:
        """The units, until time is up; those that are done take none, and one of the others is begun in any case."""
        begun = False
        for unit in units:
            if self.full and self.counted is not None:
                return
            if not self._is_done(unit):
                if begun and time.monotonic() > self.until:
                    if self._is_ahead(unit):
                        self.stopped_at = self._edge(unit)
                    return
                begun = True
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

    def told(self) -> tuple[int, bool, float]:
        """Rows that the filter lets through, as far as is known; whether that is all; the share of files looked through."""
        if self.counted is not None:
            return self.counted, True, 1.0
        counted = [unit for unit in self.units if unit.key in self.known]
        looked = sum(map(_size, counted)) / max(1, sum(map(_size, self.units)))
        count = max(sum(self.known[unit.key] for unit in counted), len(self.places))
        return count, len(counted) == len(self.units), looked


def page(
    table: RowTable,
    wanted: TraceFilter,
    *,
    after: Place | None = None,
    before: Place | None = None,
    limit: int = PAGE_ROWS,
    seconds: float = MOST_SECONDS,
) -> Page:
    """The rows behind the place `after`, or those before `before`, or the first ones; without their long texts.

    seconds: to look for; at least one group of rows that was not looked at before is. Raises BrowseError.
    """
    with AT_A_TIME:
        until = time.monotonic() + min(MOST_SECONDS, seconds)
        search = _Search(table, wanted, limit, before or after, before is not None, until)
        search.run()
        places = search.places[:limit]
        if search.backwards:
            places.reverse()
        rows = read_places(table, places, search.excerpts)
    more = search.full or search.further is not None
    count, whole, looked = search.told()
    return Page(
        rows=rows,
        previous=places[0] if places and (more if search.backwards else after is not None) else None,
        following=places[-1] if places and (search.backwards or search.full) else None,
        further=search.further,
        count=count,
        whole=whole,
        looked=looked,
    )


def _size(unit: Unit) -> float:
    if unit.groups is None:
        return unit.shard.file.size
    sizes = layout(unit.shard.file).sizes
    return unit.shard.file.size * sum(sizes[slice(*unit.groups)]) / max(1, sum(sizes))


def find_row(table: RowTable, name: str, hint: Place | None = None, seconds: float = MOST_SECONDS) -> Place:
    """Where the row with this id is. hint: where it was. Raises BrowseError where it is not there, StillLooking where it is not
    found in time."""
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
    found = page(table, TraceFilter(among={column: [name]}), limit=1, seconds=seconds)
    if found.rows:
        return found.rows[0].place
    if found.further is not None:
        raise StillLooking(table.step, name, found.looked)
    raise BrowseError(f"{table.step} has no row {name!r}; the step may have been made anew since the link was")
