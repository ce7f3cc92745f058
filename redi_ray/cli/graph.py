"""`redi-ray graph`: a config's steps, drawn in the terminal, as a picture or as JSON, with the state of each and why."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from redi_ray.config.experiment import ExperimentConfig
from redi_ray.errors import UserError
from redi_ray.pipeline.graph import Graph
from redi_ray.pipeline.standard import graph_of
from redi_ray.pipeline.states import State, states
from redi_ray.report.graph_lanes import NODE, lanes
from redi_ray.stages.run import Run
from redi_ray.store import storage

COLOURS = {"finished": "green", "cut off": "yellow", "stale": "magenta", "missing": "dim"}
SIGNS = {"finished": "●", "cut off": "◐", "stale": "◌", "missing": "○"}
PICTURES = (".svg", ".png", ".html")


class PictureError(UserError):
    """A picture that cannot be drawn to this file."""


def show_graph(
    config: ExperimentConfig, *, as_json: bool, picture: str | None = None, console: Console | None = None
) -> None:
    """Print the graph, or write its picture. Raises GraphError where its steps do not fit together, PictureError."""
    if picture is not None and not picture.endswith(PICTURES):
        raise PictureError(f"--picture {picture}: name a file that ends in {', '.join(PICTURES)}")
    graph = graph_of(config)
    found = states(graph, Run.of(config))
    if picture is not None:
        write_picture(graph, found, picture, config.name)
        if not as_json:
            print(f"picture: {picture}")
            return
    if as_json:
        print(json.dumps([as_dict(state) for state in found], indent=1, ensure_ascii=False))
        return
    draw(graph, found, console or Console())


def draw(graph: Graph, found: Sequence[State], console: Console) -> None:
    """A line for each step: rails from what it comes from, name, kind, state and why."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("step", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    table.add_column("state", overflow="fold")
    by_name, seen = {state.step.name: state for state in found}, [state.standing for state in found]
    for name, rails in lanes(graph).items():
        state = by_name[name]
        step, style = state.step, COLOURS[state.standing]
        before, after = rails.split(NODE)
        line = Text.assemble((before, "dim"), (SIGNS[state.standing], style), (after, "dim"), " ", (step.name, "bold"))
        why = f": {state.why}" if state.why else ""
        table.add_row(line, step.kind, Text(f"{state.standing}{why}", style))
    console.print(table)
    counts = [f"{seen.count(name)} {name}" for name in COLOURS if name in seen]
    console.print(Text(f"{len(found)} steps: {', '.join(counts)}", "dim"))


def write_picture(graph: Graph, found: Sequence[State], uri: str, name: str) -> None:
    """By the ending of the file: SVG, PNG, or a page with the SVG in it."""
    from redi_ray.report.figures import to_png, to_svg
    from redi_ray.report.graph_picture import graph_figure, graph_page

    figure = graph_figure(graph, found)
    if uri.endswith(".png"):
        storage.write_bytes(uri, to_png(figure))
    elif uri.endswith(".svg"):
        storage.write_bytes(uri, to_svg(figure, "graph", inline=False).encode())
    else:
        storage.write_bytes(uri, graph_page(to_svg(figure, "graph"), name).encode())


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
        "stage": step.stage,
    }
