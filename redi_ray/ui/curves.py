"""Training curves of any models of any runs, for the charts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from redi_ray.errors import StorageError
from redi_ray.report.lineage import alike, models_of
from redi_ray.report.numbers import PANELS
from redi_ray.report.runs import metrics_of
from redi_ray.report.under_way import TRAINS
from redi_ray.ui.asked import AllPlaces
from redi_ray.ui.places import Place, names_of
from redi_ray.ui.render import as_json
from redi_ray.ui.series import AllSeries, Series, rounded, smoothed, thinned
from redi_ray.ui.snapshot import Snapshot
from redi_ray.ui.snapshots import Snapshots

router = APIRouter()

MORE_PANELS: tuple[tuple[str, str, dict[str, bool]], ...] = (
    ("tokens_per_second", "Tokens a second", {}),
    ("peak_memory_gib", "Peak memory, GiB", {"noisy": False}),
)
MOST_RUNS = 12
"""In one chart."""


@dataclass(frozen=True)
class Training:
    """Of one model."""

    run: str
    """Its id."""
    name: str
    label: str
    """In the legend."""
    role: str
    """`base`, `first` (the first that was trained) or `arm`."""
    uri: str
    live: bool
    shown: bool
    """Whether it is drawn unasked: those that belong side by side, the latest in the graph, and what is under way."""


def trainings_of(place: Place, found: Snapshot, named: str) -> Iterator[Training]:
    """Finished ones and those that have begun, in the graph's order. named: begins each label."""
    where = {arm.name: arm.checkpoint.uri for arm in found.record.arms if arm.checkpoint is not None}
    live = {work.step: work.uri for work in found.works if work.kind in TRAINS}
    kinds = {step.name: step.kind for step in found.record.graph}
    first = next((name for name, kind in kinds.items() if kind == "train"), None)
    trained = [name for name in models_of(found.record.graph) if name in where or name in live]
    latest = next((names for _, names in alike(found.record.graph, trained)), [])
    for name in dict.fromkeys([*models_of(found.record.graph), *where]):
        if uri := live.get(name) or where.get(name):
            role = "base" if kinds.get(name) == "base" else "first" if name == first else "arm"
            label = f"{named}: {name}" if named else name
            yield Training(place.id, name, label, role, uri, name in live, name in latest or name in live)


@router.get("/curves.json")
def curves(
    request: Request,
    places: AllPlaces,
    run: Annotated[list[str], Query()],
    smooth: Annotated[float, Query(ge=0, lt=1)] = 0.0,
    have: str = "",
) -> Response:
    """Panels with a series for each training. have: the version that the page has, so that it is not sent again."""
    snapshots: Snapshots = request.app.state.snapshots
    chosen = [places.get(run_id) for run_id in dict.fromkeys(run)][:MOST_RUNS]
    found = {place.id: snapshots.get(place, 5.0) for place in chosen}
    if any(snapshot is None for snapshot in found.values()):
        return as_json({"waiting": True})
    names = names_of(chosen) if len(chosen) > 1 else [""]
    trainings = [
        each
        for place, name in zip(chosen, names, strict=True)
        if (snapshot := found[place.id]) is not None
        for each in trainings_of(place, snapshot, name)
    ]
    series = dict(_read(request.app.state.series, trainings))
    shown = [each for each in trainings if each.uri in series and series[each.uri].length]
    version = f"{smooth:g} " + " ".join(f"{each.uri[-16:]}:{series[each.uri].length}" for each in shown)
    if version == have:
        return as_json({"version": version})
    panels = [panel for panel in _panels(shown, series, smooth) if panel["series"]]
    told = [
        {"run": each.run, "name": each.name, "label": each.label, "role": each.role, "shown": each.shown}
        for each in shown
    ]
    live = any(each.live for each in shown)
    return as_json({"version": version, "live": live, "models": told, "panels": panels, "trips": _trips(shown, series)})


def _read(kept: AllSeries, trainings: Iterable[Training]) -> Iterator[tuple[str, Series]]:
    for each in trainings:
        try:
            yield each.uri, kept.get(metrics_of(each.uri), complete=not each.live)
        except StorageError:
            continue  # the page's notes tell it


def _panels(shown: list[Training], series: dict[str, Series], smooth: float) -> Iterator[dict[str, Any]]:
    for key, title, options in (*PANELS, *MORE_PANELS):
        drawn = []
        for number, each in enumerate(shown):
            steps, values = series[each.uri].column(key)
            if len(values):
                noisy = options.get("noisy", True)
                drawn.append({"model": number, **_drawn(steps, values, smooth if noisy else 0.0)})
        yield {"key": key, "title": title, "dots": options.get("dots", False), "series": drawn}


def _drawn(steps: Any, values: Any, smooth: float) -> dict[str, Any]:
    """Points of the line, and of the values behind it where it is smoothed; the newest value in full."""
    at = thinned(values)
    raw = {"x": steps[at].tolist(), "y": rounded(values[at]), "last": float(values[-1]), "at": int(steps[-1])}
    if smooth <= 0 or len(values) < 3:
        return raw
    line = smoothed(values, smooth)
    at = thinned(line)
    return {**raw, "x": steps[at].tolist(), "y": rounded(line[at]), "raw": {"x": raw["x"], "y": raw["y"]}}


def _trips(shown: list[Training], series: dict[str, Series]) -> list[dict[str, Any]]:
    """Steps at which the guard saw a collapse, the first ones of each training."""
    found = []
    for number, each in enumerate(shown):
        steps, values = series[each.uri].column("collapse")
        if len(at := steps[values > 0]):
            found.append({"model": number, "steps": at[:20].tolist(), "count": len(at)})
    return found
