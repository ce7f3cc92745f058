"""A run's search as its report shows it: the numbers, and the figures made from the trials' records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from redi_ray.report.effects_figure import effects_figure
from redi_ray.report.figures import to_png, to_svg
from redi_ray.report.search_figures import TITLES, curves_of_trials, value_figure
from redi_ray.search.effects import Effects, effects
from redi_ray.search.records import CURVES, TrialRecord, any_record
from redi_ray.search.results import Point, shown, to_points
from redi_ray.search.space import describe, short_names, show
from redi_ray.store import storage
from redi_ray.store.manifests import current_manifest
from redi_ray.store.storage import StorageError, exists, join


@dataclass(frozen=True)
class SearchReport:
    """What the page and `report.json` hold of a search."""

    data: dict[str, Any]
    svg: dict[str, Markup] = field(default_factory=dict)
    """Name -> figure for the page: `values`, and one of `curves-N` for each metric."""
    pictures: dict[str, bytes] = field(default_factory=dict)
    """Name -> PNG."""


def read_search(run_uri: str, notes: list[str]) -> SearchReport | None:
    """The search in force, None if there is none. What cannot be read is a note."""
    if not exists(join(run_uri, "search", "manifest.json")):
        return None
    try:
        manifest = current_manifest(run_uri, "search")
        facts = manifest.facts
        found = [any_record(run_uri, key) for key in facts["trials"]]
    except (OSError, ValueError, KeyError, TypeError, StorageError) as error:
        notes.append(f"{join(run_uri, 'search')}: cannot be read ({type(error).__name__}: {error}).")
        return None
    records = [record for record in found if record is not None]
    if lost := len(found) - len(records):
        notes.append(f"{join(run_uri, 'search')}: {lost} trials have lost their records.")
    points = to_points(records)
    best = next((point for point in points if facts["winner"] and point.values == facts["winner"]["values"]), None)
    axes = shown_axes(facts)
    figures = _figures(records, points, axes, facts["metric"], best)
    if (analysis := effects(records)) is not None:
        figures["effects"] = effects_figure(analysis, facts["metric"])
    data = {
        **{name: facts[name] for name in KEPT},
        "title": TITLES.get(facts["metric"], facts["metric"]),
        "names": dict(zip(facts["paths"], short_names(facts["paths"]), strict=True)),
        "axes": axes,
        "effects": _told(analysis, facts["metric"]),
        "trials": [_row(record, facts["metric"]) for record in _ranked(records, facts["mode"])],
        "counts": manifest.counts,
        "dropped": manifest.dropped,
        "rejected": manifest.rejected,
        "seconds": manifest.seconds,
        "winner_config": storage.join(manifest.uri, "winner.yaml") if best else None,
    }
    svg = {name: Markup(to_svg(figure, f"search-{name}")) for name, figure in figures.items() if name != "curves"}
    pictures = {f"search_{n}": to_png(f) for n, f in figures.items() if not n.startswith("curves-")}
    return SearchReport(data, svg, pictures)


KEPT = (
    "arm", "metric", "mode", "method", "scheduler", "seeds", "paths", "collapsed", "winner", "within_one_sem", "importance",
    "cost",
)  # fmt: skip
"""Facts of the manifest that the report repeats."""


def shown_axes(facts: dict[str, Any]) -> list[str]:
    """The two parameters that are drawn: all if there are no more, else those that mattered most."""
    paths = facts["paths"]
    if len(paths) <= 2:
        return paths
    ranked = [item["path"] for item in facts["importance"]] or paths
    return sorted(ranked[:2], key=paths.index)


def _figures(
    records: Sequence[TrialRecord], points: Sequence[Point], axes: Sequence[str], metric: str, best: Point | None
) -> dict[str, Figure]:
    metrics = list(dict.fromkeys([metric, *CURVES]))
    figures = {"values": value_figure(points, axes, metric, best), "curves": curves_of_trials(records, axes, metrics)}
    for number, name in enumerate(metrics):
        figures[f"curves-{number}"] = curves_of_trials(records, axes, [name], legend=number == 0)
    return {name: figure for name, figure in figures.items() if figure is not None}


def _told(found: Effects | None, metric: str) -> dict[str, Any] | None:
    """The analysis as the page and `report.json` have it."""
    if found is None:
        return None
    data = asdict(found)
    for part in (*data["levels"], *data["cells"]):
        part["shown"] = shown(part["mean"], metric)
    for level in data["levels"]:
        level["shown_sem"] = None if level["sem"] is None else shown(level["sem"], metric)
        level["text"] = show(level["value"])
    return data


def _ranked(records: Sequence[TrialRecord], mode: str) -> list[TrialRecord]:
    sign = -1.0 if mode == "max" else 1.0
    return sorted(records, key=lambda record: (record.value is None, sign * (record.value or 0.0)))


def _row(record: TrialRecord, metric: str) -> dict[str, Any]:
    return {
        "name": describe(record.values),
        "values": record.values,
        "seed": record.seed,
        "status": record.status,
        "reason": record.reason,
        "collapsed": record.collapsed,
        "value": record.value,
        "shown": "-" if record.value is None else shown(record.value, metric),
        "shown_sem": None if record.sem is None else shown(record.sem, metric),
        "steps": record.steps,
        "total_steps": record.total_steps,
        "tokens": record.tokens,
        "train_seconds": record.train_seconds,
        "worker_hours": record.worker_hours,
        "device": "GPU" if record.uses_gpu else "CPU",
    }
