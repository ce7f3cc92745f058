"""What a link or a form asks of rows, as filters, and filters as links."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from urllib.parse import urlencode

from redi_ray.report.filters import BrowseError, Range, TraceFilter
from redi_ray.report.row_pages import MOST_SECONDS
from redi_ray.report.row_places import Place

AMONG = ("finish_reason", "model", "reason", "what")
"""Columns of words that a form offers beside verdict, source and problem."""
Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class RowQuery:
    """Which rows of which step, and from where on."""

    step: str
    table: str | None = None
    wanted: TraceFilter = field(default_factory=TraceFilter)
    after: Place | None = None
    before: Place | None = None
    first: int | None = None
    """The number of the page's first row, where the link says it."""
    seconds: float | None = None

    @classmethod
    def parse(cls, asked: Pairs) -> RowQuery:
        """Of a link's parameters. Raises BrowseError, naming the one that cannot be read; others it leaves be."""
        given = dict[str, list[str]]()
        for name, value in asked:
            if value.strip():
                given.setdefault(name, []).append(value)
        one = {name: values[-1] for name, values in given.items()}
        number = _numbers(one)
        score = {one["score"]: Range(number("score_from"), number("score_to"))} if "score" in one else {}
        low, high = number("chars_from"), number("chars_to")
        wanted = TraceFilter(
            verdicts=given.get("verdict", []),
            sources=given.get("source", []),
            problem_ids=given.get("problem", []),
            min_length=None if low is None else int(low),
            max_length=None if high is None else int(high),
            text=one.get("text"),
            tokens=Range(number("tokens_from"), number("tokens_to")),
            votes={one["voter"]: one["vote"]} if "voter" in one and "vote" in one else {},
            scores={name: numbers for name, numbers in score.items() if numbers},
            among={column: given[column] for column in AMONG if column in given},
        )
        first, seconds = number("n"), number("seconds")
        return cls(
            step=one.get("step", ""),
            table=one.get("table"),
            wanted=wanted,
            after=Place.parse(one["after"]) if "after" in one else None,
            before=Place.parse(one["before"]) if "before" in one else None,
            first=None if first is None else int(first),
            seconds=None if seconds is None else min(seconds, MOST_SECONDS),
        )


def _numbers(one: Mapping[str, str]) -> Callable[[str], float | None]:
    def number(name: str) -> float | None:
        if name not in one:
            return None
        try:
            found = float(one[name].replace(",", "").strip())
        except ValueError:
            raise BrowseError(f"{name}: {one[name]!r} is no number") from None
        if not isfinite(found):
            raise BrowseError(f"{name}: {one[name]!r} is no number")
        return found

    return number


def query(asked: Pairs, without: Iterable[str] = (), **more: object) -> str:
    """A link's parameters, those given replaced or left out (None), in the order that they came in."""
    gone = {*without, *more}
    kept = [(name, value) for name, value in asked if name not in gone and value.strip()]
    return urlencode([*kept, *((name, str(value)) for name, value in more.items() if value is not None)])
