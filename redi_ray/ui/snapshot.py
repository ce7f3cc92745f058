"""A run as it was read, for its pages."""

from __future__ import annotations

from dataclasses import dataclass

from redi_ray.report.runs import RunRecord
from redi_ray.report.standing import Standing
from redi_ray.report.under_way import Work

FRESH_SECONDS = {"running": 1.5}
AT_REST_SECONDS = 8.0
"""How old a snapshot may be before it is read again."""


@dataclass(frozen=True)
class Snapshot:
    """A run as it was read."""

    record: RunRecord
    """Without metrics and samples."""
    standing: Standing
    works: list[Work]
    """Steps that have begun."""
    next: list[str]
    """Steps whose inputs are all there."""
    notes: list[str]
    at: float
    """When it was read, in seconds since 1970."""

    @property
    def fresh_seconds(self) -> float:
        return FRESH_SECONDS.get(self.standing.state, AT_REST_SECONDS)
