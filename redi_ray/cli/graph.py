"""`redi-ray graph`: a config's steps as a table or as JSON, with the state of each and why one is stale."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from redi_ray.config.experiment import ExperimentConfig
from redi_ray.pipeline.standard import graph_of
from redi_ray.pipeline.states import State, states
from redi_ray.stages.run import Run

COLOURS = {"finished": "green", "cut off": "yellow", "stale": "magenta", "missing": "dim"}


def show_graph(config: ExperimentConfig, *, as_json: bool, console: Console | None = None) -> None:
    """Print the graph. Raises GraphError where its steps do not fit together."""
    found = states(graph_of(config), Run.of(config))
    if as_json:
        print(json.dumps([as_dict(state) for state in found], indent=1, ensure_ascii=False))
        return
    console = console or Console()
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("step", "kind", "from", "state", ""):
        table.add_column(column, overflow="fold")
    for state in found:
        step = state.step
        taken = ", ".join(name if role == name else f"{role} {name}" for role, name in step.inputs.items())
        standing = Text(state.standing, style=COLOURS[state.standing])
        table.add_row(step.name, step.kind, taken, standing, state.why)
    console.print(table)


def as_dict(state: State) -> dict[str, Any]:
    """A step for programs: name, kind, inputs, output type, state, and why it is stale."""
    step = state.step
    return {
        "name": step.name,
        "kind": step.kind,
        "inputs": dict(step.inputs),
        "gives": step.gives,
        "state": state.standing,
        "why": state.why,
        "key": state.key,
    }
