"""What pages of rows have come to so far: so a question that took too long for one page is answered after some."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from threading import Lock
from typing import TypeAlias

from redi_ray.report.scan import Found
from redi_ray.store.storage import File

Key: TypeAlias = tuple[File, int]
"""Of a unit."""
Asked: TypeAlias = tuple[Key, int | None, bool, int]
"""(unit, the row that looking begins behind, backwards, rows of a page)"""
KEPT = 2048
"""Rows, and units, that are kept of a filter."""


@dataclass
class Looked:
    """Of one table and one filter."""

    counts: dict[Key, int] = field(default_factory=dict)
    """Unit -> rows that are let through, of those that were looked through whole."""
    _found: dict[Asked, Found] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def found(self, asked: Asked) -> Found | None:
        """What was found in a unit, as far as it was looked through."""
        with self._lock:
            return self._found.get(asked)

    def keep(self, asked: Asked, found: Found) -> None:
        """The first rows, as many as a page takes; what was kept longest goes for it. Rows that fill a page before the unit was
        looked through are not kept, since they are no count."""
        most = asked[-1] + 1
        if found.broken_off is not None and len(found.rows) >= most:
            return
        rows = found.rows[:most]
        with self._lock:
            self._found.pop(asked, None)
            self._found[asked] = replace(
                found, rows=rows, excerpts={row: found.excerpts[row] for row in rows if row in found.excerpts}
            )
            held = sum(len(one.rows) + 1 for one in self._found.values())
            while held > KEPT + most:
                held -= len(self._found.pop(next(iter(self._found))).rows) + 1


@lru_cache(maxsize=64)
def looked(root: str, wanted: str) -> Looked:
    """What is known. root: of the table; wanted: the filter's key."""
    return Looked()
