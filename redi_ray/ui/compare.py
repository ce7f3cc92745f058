"""Runs, or configs, beside each other: where their configs differ, their scores, their curves in one chart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from redi_ray.errors import StorageError
from redi_ray.eval.metrics import BenchmarkResult, PairedComparison
from redi_ray.pipeline.states import differences
from redi_ray.ui.asked import AllPlaces
from redi_ray.ui.curves import MOST_RUNS
from redi_ray.ui.places import names_of
from redi_ray.ui.render import page
from redi_ray.ui.scores import compared
from redi_ray.ui.snapshot import Snapshot
from redi_ray.ui.snapshots import Snapshots

router = APIRouter()

PATIENCE = 20.0
"""Seconds that runs are waited for: there is nothing to compare before they are read."""
UNSET = object()
"""Stands for what a config has no word for."""
MOST_DIFFERENCES = 400


@dataclass(frozen=True)
class Difference:
    """One field, with the value of each run; None where it is not set."""

    path: str
    values: list[str | None]


@dataclass(frozen=True)
class ScoresBeside:
    """A model on a benchmark in each run; the difference of each from the first that has a score."""

    model: str
    results: list[BenchmarkResult | None]
    differences: list[PairedComparison | None]


@router.get("/compare")
def compare_runs(request: Request, places: AllPlaces, run: Annotated[list[str] | None, Query()] = None) -> Response:
    chosen = [places.get(run_id) for run_id in dict.fromkeys(run or [])][:MOST_RUNS]
    snapshots: Snapshots = request.app.state.snapshots
    found = snapshots.all(chosen, PATIENCE)
    broken = {place.name: str(error) for place in chosen if isinstance(error := found[place.id], StorageError)}
    there = [(place, one) for place in chosen if isinstance(one := found[place.id], Snapshot)]
    return page(
        "compare.html.j2",
        places=[place for place, _ in there],
        names=names_of([place for place, _ in there]),
        snapshots=[one for _, one in there],
        differs=config_differences([one.record.config for _, one in there])[:MOST_DIFFERENCES],
        scores=dict(scores_beside([one for _, one in there])),
        broken=broken,
        others=[place for place in places.all() if place not in chosen],
    )


def config_differences(configs: Sequence[dict[str, Any]]) -> list[Difference]:
    """Every field in which the first config and another one differ, by its dotted path; the run's own name is none."""
    if len(configs) < 2:
        return []
    paths = dict.fromkeys(path for other in configs[1:] for path in differences(configs[0], other))
    paths.pop("name", None)
    return [Difference(path, [_told(_at(config, path)) for config in configs]) for path in sorted(paths)]


def _at(config: Any, path: str) -> Any:
    """The value under a dotted path. Names with dots in them are found, too."""
    if not path:
        return config
    if not isinstance(config, dict):
        return UNSET
    for name, value in config.items():
        if path == str(name):
            return value
        if path.startswith(f"{name}.") and (found := _at(value, path[len(str(name)) + 1 :])) is not UNSET:
            return found
    return UNSET


def _told(value: Any) -> str | None:
    if value is UNSET:
        return None
    if isinstance(value, dict | list):
        return ", ".join(f"{path}: {leaf}" if path else f"{leaf}" for path, leaf in _leaves(value)) or "empty"
    return str(value) if value is not None else "null"


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _leaves(item, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        for number, item in enumerate(value):
            yield from _leaves(item, f"{path}.{number}" if path else str(number))
    elif value is not None:
        yield path, value


def scores_beside(snapshots: Sequence[Snapshot]) -> Iterator[tuple[str, list[ScoresBeside]]]:
    """Benchmark -> models, those first that several runs have."""
    records = [one.record for one in snapshots]
    for benchmark in dict.fromkeys(name for record in records for name in record.benchmarks):
        by_run = [record.results(benchmark) for record in records]
        models = dict.fromkeys(name for results in by_run for name in results)
        rows = [_beside(model, [results.get(model) for results in by_run]) for model in models]
        yield benchmark, sorted(rows, key=lambda row: -sum(result is not None for result in row.results))


def _beside(model: str, results: list[BenchmarkResult | None]) -> ScoresBeside:
    first = next((result for result in results if result is not None), None)
    paired = [
        None if result is None or result is first or first is None else compared(first, result) for result in results
    ]
    return ScoresBeside(model, results, paired)
