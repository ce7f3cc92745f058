"""What a run has to look at, as it was found a moment ago."""

from __future__ import annotations

from collections.abc import Iterable

from redi_ray.pipeline.asked import is_reward
from redi_ray.pipeline.graph import Graph, Step
from redi_ray.report.browse import graph_of_run
from redi_ray.report.row_tables import RowTable, has_rows, rows_of
from redi_ray.report.side_by_side import threads
from redi_ray.store import storage
from redi_ray.ui.kept import kept

SECONDS = 0.4
"""How long a page looks for rows before it answers; the browser asks again by itself, and the answer goes on from there."""


@kept
def graph_of(run: str) -> Graph:
    """Its steps."""
    return graph_of_run(run)


@kept
def table_of(run: str, step: str, table: str | None = None) -> RowTable:
    """A table of a step (`rows_of`). Raises BrowseError, GraphError."""
    return rows_of(run, graph_of(run), step, table)


@kept
def steps_with_rows(run: str) -> list[str]:
    """The steps that have rows, or have begun to make some."""
    return _there(run, [step for step in graph_of(run) if has_rows(step)], "")


@kept
def models_of(run: str) -> list[str]:
    """The finished models that say text."""
    models = [step for step in graph_of(run) if step.gives == "model" and not is_reward(step)]
    return _there(run, models, "/manifest.json")


def _there(run: str, steps: Iterable[Step], file: str) -> list[str]:
    asked = list(steps)
    with threads(run) as pool:
        found = pool.map(lambda step: storage.exists(storage.join(run, step.stage) + file), asked)
        return [step.name for step, there in zip(asked, found, strict=True) if there]
