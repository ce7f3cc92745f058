"""A run's search: its heat map, and a table of the trials. Of one that is under way, of the trials that have ended."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from redi_ray.errors import StorageError
from redi_ray.search.records import TrialRecord, any_record
from redi_ray.search.results import Point, importances, shown, to_points
from redi_ray.search.space import describe, short_names, show
from redi_ray.store import storage
from redi_ray.store.manifests import current_manifest
from redi_ray.ui.asked import RunPlace
from redi_ray.ui.places import Place
from redi_ray.ui.render import page
from redi_ray.ui.snapshots import Snapshots

router = APIRouter()

MOST_CELLS = 24
"""Values of a parameter that a heat map has a row or column for."""
SHOWN_TRIALS = 100
DARK, LIGHT = (0, 34, 78), (254, 232, 56)
"""Ends of the scale, those of cividis, which colour-blind readers tell apart."""


@dataclass(frozen=True)
class Cell:
    """Trials that share their values on both axes."""

    value: float | None
    shown: str
    told: str
    """How many collapsed, or were stopped early."""
    gone: bool
    best: bool
    style: str


@dataclass(frozen=True)
class HeatMap:
    """The compared metric over one or two parameters."""

    down: str
    across: str
    rows: list[tuple[str, list[Cell | None]]]
    columns: list[str]


@router.get("/run/{run_id}/search")
def search(request: Request, place: RunPlace) -> Response:
    """A part of the run's page."""
    snapshots: Snapshots = request.app.state.snapshots
    found = snapshots.get(place)
    config = found.record.config.get("search") if found else None
    return page("search_part.html.j2", **read_trials(place, config if isinstance(config, dict) else {}))


def read_trials(place: Place, config: dict[str, Any]) -> dict[str, Any]:
    """What the part shows. config: the run's section, for what a search that has not ended does not tell yet."""
    facts: dict[str, Any] = {}
    if storage.exists(storage.join(place.uri, "search", "manifest.json")):
        facts = current_manifest(place.uri, "search").facts
    keys = facts.get("trials")
    if keys is None:
        files = storage.list_files(storage.join(place.uri, "search", "trials"), ".json")
        keys = [file.rsplit("/", 1)[-1].removesuffix(".json") for file in files]
    records = [record for key in keys if (record := _record(place.uri, key)) is not None]
    metric, mode = facts.get("metric", config.get("metric") or "dev_accuracy"), facts.get("mode", "max")
    points = to_points(records)
    best = facts["winner"]["values"] if facts.get("winner") else None
    ranked = sorted(
        records, key=lambda record: (record.value is None, (record.value or 0) * (-1 if mode == "max" else 1))
    )
    return {
        "ended": bool(facts),
        "metric": metric,
        "lost": len(keys) - len(records),
        "collapsed": sum(record.collapsed for record in records),
        "trials": [(describe(record.values), record, _shown(record.value, metric)) for record in ranked[:SHOWN_TRIALS]],
        "count": len(records),
        "winner": describe(best) if best else None,
        "map": heat_map(points, axes_of(records), metric, best),
        "importances": importances(records) if len(records) > 2 else [],
    }  # fmt: skip


def _record(run_uri: str, key: str) -> TrialRecord | None:
    try:
        return any_record(run_uri, key)
    except (StorageError, ValueError, TypeError):
        return None  # damaged, or of another version: counted as lost


def axes_of(records: Sequence[TrialRecord]) -> list[str]:
    """The two parameters that are drawn: all if there are no more, else those that mattered most."""
    paths = list(dict.fromkeys(path for record in records for path in record.values))
    if len(paths) <= 2:
        return paths
    ranked = [item.path for item in importances(records)] or paths
    return sorted(ranked[:2], key=paths.index)


def heat_map(points: Sequence[Point], axes: Sequence[str], metric: str, best: Any) -> HeatMap | None:
    """None without values, or with too many of them for cells."""
    points = [point for point in points if all(path in point.values for path in axes)]
    if not points or not axes:
        return None
    down, across = axes[0], axes[-1]
    rows, columns = (_levels(points, path) for path in (down, across))
    if len(axes) == 1:
        rows = rows[:1]
    if len(rows) > MOST_CELLS or len(columns) > MOST_CELLS:
        return None
    # a collapse is so far below the rest that nothing else would be told apart
    sound = [point.value for point in points if point.value is not None and not point.collapsed] or [0.0]
    ends, cells = (min(sound), max(sound)), {}
    for row, column in itertools.product(rows, columns):
        here = [p for p in points if (len(axes) == 1 or p.values[down] == row) and p.values[across] == column]
        cells[str(row), str(column)] = _cell(here, metric, ends, best)
    names = dict(zip(axes, short_names(axes), strict=True))
    told = [(show(row) if len(axes) > 1 else "", [cells[str(row), str(c)] for c in columns]) for row in rows]
    return HeatMap(names[down] if len(axes) > 1 else "", names[across], told, [show(column) for column in columns])


def _levels(points: Sequence[Point], path: str) -> list[Any]:
    values = list({str(point.values[path]): point.values[path] for point in points}.values())
    plain = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return sorted(values) if plain else values


def _cell(points: Sequence[Point], metric: str, ends: tuple[float, float], best: Any) -> Cell | None:
    if not points:
        return None
    trials = [trial for point in points for trial in point.trials]
    found = [point.value for point in points if point.value is not None]
    value, gone = sum(found) / len(found) if found else None, sum(trial.collapsed for trial in trials)
    cut = sum(trial.status in ("stopped_by_scheduler", "out_of_time") for trial in trials)
    told = f"{gone} of {len(trials)} collapsed" if gone else f"{cut} of {len(trials)} stopped early" if cut else ""
    is_best = best is not None and any(point.values == best for point in points)
    style = "" if gone or value is None else colour(value, *ends)
    return Cell(value, _shown(value, metric), told, bool(gone), is_best, style)


def colour(value: float, low: float, high: float) -> str:
    """A cell's style: from dark to light, with letters that can be read on it."""
    share = min(1.0, max(0.0, (value - low) / (high - low))) if high > low else 1.0
    mixed = [round(dark + share * (light - dark)) for dark, light in zip(DARK, LIGHT, strict=True)]
    return f"background:rgb({mixed[0]} {mixed[1]} {mixed[2]});color:{'#fff' if share < 0.55 else '#111'}"


def _shown(value: float | None, metric: str) -> str:
    return "-" if value is None else shown(value, metric)
