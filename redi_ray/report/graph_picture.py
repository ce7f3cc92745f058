"""A picture of a run's graph: a box for each step, filled by its state, lines from what it comes from, rounds in frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path

from redi_ray.pipeline.graph import Graph
from redi_ray.pipeline.rounds import round_of
from redi_ray.pipeline.states import State
from redi_ray.report.figures import MUTED, PALETTE, STYLE
from redi_ray.report.graph_layout import SCORES_WIDTH, Layout, layout

COLOURS = {"finished": PALETTE[2], "cut off": PALETTE[4], "stale": PALETTE[3], "missing": MUTED}
INCHES = (1.55, 0.74)
"""Of a step's width and of a row."""
BOX = (1.0, 0.62)
"""Of a step, in these."""
PILL = SCORES_WIDTH - 0.06
"""Width of the box that stands for a model's scores."""


def graph_figure(graph: Graph, states: Sequence[State]) -> Figure:
    """The whole graph, from top to bottom. Names, kinds, states, and why a step is stale."""
    placed, state = layout(graph), {found.step.name: found for found in states}
    rows = max(placed.row.values(), default=0) + 1
    right = max((x + BOX[0] / 2 + (PILL if name in placed.scores else 0) for name, x in placed.x.items()), default=1.0)
    right = max(right, 3.2)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(INCHES[0] * (right + 0.2), INCHES[1] * (rows + 0.55)))
        axis = figure.add_axes((0, 0, 1, 1))
        axis.set_xlim(-0.1, right + 0.1)
        axis.set_ylim(rows - 0.45, -1.0)
        axis.axis("off")
        _draw_rounds(axis, placed)
        for source, name, places in placed.lines:
            _draw_line(axis, places, round_of(source)[1] != round_of(name)[1])
        for name, x in placed.x.items():
            _draw_step(axis, x, placed.row[name], state[name])
            if name in placed.scores:
                _draw_scores(axis, x, placed.row[name], state[placed.scores[name]])
        _draw_legend(axis, [found.standing for found in states])
        return figure


def graph_page(svg: str, name: str) -> str:
    """An HTML page with the picture alone."""
    return f"<!doctype html><meta charset=utf-8><title>{escape(name)}: graph</title><style>svg {{max-width: 100%}}</style>{svg}"


def _draw_rounds(axis: Axes, placed: Layout) -> None:
    """A frame around the steps of each round."""
    rounds: dict[int, list[str]] = {}
    for name in placed.x:
        if (number := round_of(name)[1]) is not None:
            rounds.setdefault(number, []).append(name)
    for number, names in rounds.items():
        left = min(placed.x[name] for name in names) - BOX[0] / 2 - 0.06
        right = max(placed.x[name] + (PILL if name in placed.scores else 0) for name in names) + BOX[0] / 2 + 0.06
        top, bottom = min(placed.row[name] for name in names) - 0.5, max(placed.row[name] for name in names) + 0.4
        axis.add_patch(_box(left, top, right - left, bottom - top, facecolor=MUTED, alpha=0.12, edgecolor="none"))
        axis.text(left + 0.05, top + 0.09, f"round {number}", ha="left", va="center", fontsize=6.5, color=MUTED)


def _draw_line(axis: Axes, places: list[tuple[float, float]], between_rounds: bool) -> None:
    """From a box's lower edge to another's upper edge, in soft bends."""
    (x, row), *rest = places
    half, (goal, last) = BOX[1] / 2, rest[-1]
    points, codes = [(x, row + half)], [Path.MOVETO]

    def bend(to: float, at: float) -> None:
        x, y = points[-1]
        points.extend([(x, (y + at) / 2), (to, (y + at) / 2), (to, at)])
        codes.extend([Path.CURVE4] * 3)

    for to, at in rest[:-1]:  # straight beside the boxes of a row
        bend(to, at - half)
        points.append((to, at + half))
        codes.append(Path.LINETO)
    bend(goal, last - half - 0.05)
    style = {"linestyle": (0, (4, 2))} if between_rounds else {}
    axis.add_patch(PathPatch(Path(points, codes), fill=False, edgecolor=MUTED, linewidth=1.0, **style))
    axis.plot(*points[-1], marker=(3, 0, 180), color=MUTED, markersize=4.5, clip_on=False)


def _draw_step(axis: Axes, x: float, row: float, state: State) -> None:
    step = state.step
    _fill(axis, x - BOX[0] / 2, row - BOX[1] / 2, BOX[0], BOX[1], state.standing)
    lines = [step.kind if state.standing == "finished" else f"{step.kind}, {state.standing}"]
    lines += [state.why] if state.standing == "stale" and state.why else []
    top = row - 0.045 - 0.06 * len(lines)
    axis.text(x, top, _short(step.name, 21), ha="center", va="center", fontsize=8, fontweight="bold")
    for number, line in enumerate(lines, 1):
        axis.text(x, top + 0.045 + 0.165 * number, _short(line, 33), ha="center", va="center", fontsize=6.2)


def _draw_scores(axis: Axes, x: float, row: float, state: State) -> None:
    left = x + BOX[0] / 2 + 0.03
    _fill(axis, left, row - 0.2, PILL, 0.4, state.standing)
    axis.text(left + PILL / 2, row, "scores", ha="center", va="center", fontsize=6.5)


def _fill(axis: Axes, left: float, top: float, width: float, height: float, standing: str) -> None:
    colour, made = COLOURS[standing], standing != "missing"
    options: dict[str, Any] = {"linestyle": "-" if made else (0, (3, 2)), "linewidth": 1.1}
    filled = matplotlib.colors.to_rgba(colour, 0.25 if made else 0.0)
    axis.add_patch(_box(left, top, width, height, facecolor=filled, edgecolor=colour, **options))


def _box(left: float, top: float, width: float, height: float, **style: Any) -> FancyBboxPatch:
    aspect = INCHES[0] / INCHES[1]
    return FancyBboxPatch(
        (left, top), width, height, boxstyle="round,pad=0,rounding_size=0.07", mutation_aspect=aspect, **style
    )


def _draw_legend(axis: Axes, standings: Sequence[str]) -> None:
    shown: Mapping[str, str] = {name: colour for name, colour in COLOURS.items() if name in standings}
    handles = [
        Line2D(
            [],
            [],
            marker="s",
            linestyle="",
            color=colour,
            markersize=7,
            alpha=0.7,
            label=f"{standings.count(name)} {name}",
        )
        for name, colour in shown.items()
    ]
    axis.legend(handles=handles, loc="upper left", ncols=len(handles), frameon=False, fontsize=8, borderaxespad=0.2)


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 2]}..."
