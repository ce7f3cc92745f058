"""A search's figures: the heat map with collapsed cells marked, and the learning curves of all trials."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from redi_ray.report.figures import DASHES, INK, MUTED, STYLE
from redi_ray.search.records import TrialRecord
from redi_ray.search.results import SHARES, Point, shown
from redi_ray.search.space import short_names, show

SCALE = "cividis"
"""Of values; told apart by colour-blind readers, and in grey."""
COLLAPSE = "#d55e00"
MOST_CELLS = 12
"""A parameter with more values is drawn as an axis with dots, not as cells."""
TITLES = {
    "dev_accuracy": "Development accuracy, %",
    "dev_pass@1": "Development pass@1, %",
    "loss": "Loss",
    "margin": "Margin: chosen - rejected",
    "chosen_logp": "Chosen log-prob, nats per token",
    "rejected_logp": "Rejected log-prob, nats per token",
    "grad_norm": "Gradient norm, before clipping",
    "update_norm": "Update norm",
}


@dataclass(frozen=True)
class Cell:
    """Points that share their values on the shown axes."""

    points: tuple[Point, ...]

    @property
    def value(self) -> float | None:
        found = [point.value for point in self.points if point.value is not None]
        return sum(found) / len(found) if found else None

    @property
    def trials(self) -> list[TrialRecord]:
        return [trial for point in self.points for trial in point.trials]

    @property
    def collapsed(self) -> int:
        return sum(trial.collapsed for trial in self.trials)

    @property
    def cut(self) -> int:
        """Trials that were stopped early for another reason than collapse."""
        return sum(trial.status in ("stopped_by_scheduler", "out_of_time") for trial in self.trials)


def label(path: str, metric: str = "") -> str:
    """A parameter or a metric as axes have it."""
    return TITLES.get(metric, metric) if metric else short_names([path])[0]


def value_figure(points: Sequence[Point], axes: Sequence[str], metric: str, best: Point | None) -> Figure | None:
    """The metric over the space: cells for two parameters with few values each, else dots. None without any value.

    axes: one or two paths; what lies beyond them is averaged in a cell, and overlaid as dots.
    """
    measured = [point for point in points if point.value is not None]
    if not measured or not axes:
        return None
    few = all(len(levels(points, path)) <= MOST_CELLS for path in axes)
    with matplotlib.rc_context(STYLE):
        if len(axes) > 1 and few:
            return _heat_map(points, axes[0], axes[1], metric, best)
        return _dots(measured, axes, metric, best)


def levels(points: Sequence[Point], path: str) -> list[Any]:
    """The values of a parameter: numbers in order, others as they come."""
    found = {json.dumps(point.values[path], sort_keys=True): point.values[path] for point in points}
    values = list(found.values())
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return sorted(values) if numeric else values


def _heat_map(points: Sequence[Point], down: str, across: str, metric: str, best: Point | None) -> Figure:
    rows, columns = levels(points, down), levels(points, across)
    cells = {
        (i, j): Cell(tuple(p for p in points if p.values[down] == rows[i] and p.values[across] == columns[j]))
        for i, j in itertools.product(range(len(rows)), range(len(columns)))
    }
    # a collapse is so far below the rest that nothing else would be told apart
    sound = [cell.value for cell in cells.values() if cell.value is not None and not cell.collapsed] or [0.0]
    norm = Normalize(min(sound), max(sound) if max(sound) > min(sound) else min(sound) + 1)
    figure = Figure(figsize=(1.6 + 0.95 * len(columns), 1.3 + 0.62 * len(rows)), layout="constrained")
    axis = figure.subplots()
    colours = matplotlib.colormaps[SCALE]
    for (i, j), cell in cells.items():
        _draw_cell(axis, i, j, cell, metric, norm, colours)
        if best is not None and best in cell.points:
            axis.add_patch(Rectangle((j - 0.47, i - 0.47), 0.94, 0.94, fill=False, edgecolor=INK, linewidth=2.4))
    axis.set_xlim(-0.5, len(columns) - 0.5)
    axis.set_ylim(-0.5, len(rows) - 0.5)
    axis.set_xticks(range(len(columns)), [show(value) for value in columns])
    axis.set_yticks(range(len(rows)), [show(value) for value in rows])
    axis.set_xlabel(label(across))
    axis.set_ylabel(label(down))
    axis.tick_params(length=0)
    axis.grid(visible=False)
    for side in axis.spines.values():
        side.set_visible(False)
    axis.set_title(label("", metric))
    return figure


def _draw_cell(axis: Axes, i: int, j: int, cell: Cell, metric: str, norm: Normalize, colours: Any) -> None:
    value = cell.value
    gone = cell.collapsed > 0
    colour = "#dcdcdc" if gone else colours(norm(value)) if value is not None else "none"
    axis.add_patch(
        Rectangle(
            (j - 0.47, i - 0.47), 0.94, 0.94, facecolor=colour, edgecolor=COLLAPSE if gone else "none",
            hatch="///" if gone else None, linewidth=0, alpha=0.55 if cell.cut and not gone else 1,
        )
    )  # fmt: skip
    lines = [shown(value, metric)] if value is not None else ["-"]
    if gone:
        lines.append("collapsed" if cell.collapsed == len(cell.trials) else f"{cell.collapsed} of {len(cell.trials)}")
    elif cell.cut:
        lines.append(f"stopped at {min(trial.steps for trial in cell.trials)}")
    dark = value is not None and norm(value) < 0.55
    box = {"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 1.5} if gone else None
    ink = COLLAPSE if gone else "white" if dark else "#1a1a1a" if value is not None else MUTED
    axis.text(j, i, "\n".join(lines), ha="center", va="center", fontsize=8, color=ink, bbox=box)


def _dots(points: Sequence[Point], axes: Sequence[str], metric: str, best: Point | None) -> Figure:
    """One parameter against the metric, the other as colour."""
    across, other = axes[0], axes[1] if len(axes) > 1 else None
    figure = Figure(figsize=(4.8, 3.0), layout="constrained")
    axis = figure.subplots()
    scale = 100 if metric in SHARES else 1
    order, shades = levels(points, across), levels(points, other) if other else [None]
    numeric = all(isinstance(value, int | float) for value in order)
    colours = matplotlib.colormaps[SCALE](np.linspace(0, 0.85, len(shades)))
    for point in points:
        x = point.values[across] if numeric else order.index(point.values[across])
        y = scale * (point.value or 0.0)
        colour = colours[shades.index(point.values[other]) if other else 0]
        if point.sem is not None:
            axis.plot([x, x], [y - scale * point.sem, y + scale * point.sem], color=colour, linewidth=1)
        axis.plot([x], [y], "x" if point.collapsed else "o", color=COLLAPSE if point.collapsed else colour)
        if point is best:
            axis.plot([x], [y], "o", markersize=11, fillstyle="none", color=INK)
    if not numeric:
        axis.set_xticks(range(len(order)), [show(value) for value in order])
    elif min(order) > 0 and max(order) > 30 * min(order):
        axis.set_xscale("log")
    axis.set_xlabel(label(across))
    axis.set_title(label("", metric))
    if other and len(shades) <= MOST_CELLS:
        handles = [axis.plot([], [], "o", color=colour)[0] for colour in colours]
        axis.legend(handles, [show(value) for value in shades], title=label(other), fontsize=7, frameon=False)
    return figure


def curves_of_trials(
    records: Sequence[TrialRecord], axes: Sequence[str], metrics: Sequence[str], legend: bool = True
) -> Figure | None:
    """A panel for each metric, a line for each trial: the first of `axes` as colour, the second as dash; a cross where a
    trial collapsed."""
    panels = [metric for metric in metrics if any(len(record.reports(metric)) > 1 for record in records)]
    if not panels:
        return None
    points = [Point(record.values, (record,)) for record in records]
    shades = levels(points, axes[0]) if axes else [None]
    dashes = levels(points, axes[1]) if len(axes) > 1 else [None]
    colours = matplotlib.colormaps[SCALE](np.linspace(0, 0.85, len(shades)))
    columns = min(2, len(panels))
    height = math.ceil(len(panels) / columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.4 * columns, 0.7 + 2.4 * height), layout="constrained")
        grid = list(figure.subplots(height, columns, squeeze=False).flat)
        for axis, metric in zip(grid, panels, strict=False):
            for record in records:
                colour = colours[shades.index(record.values[axes[0]]) if axes else 0]
                dash = DASHES[dashes.index(record.values[axes[1]]) % len(DASHES)] if len(axes) > 1 else "-"
                _draw_curve(axis, record, metric, colour, dash)
            axis.set_title(label("", metric))
            axis.set_xlabel("step")
            axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        for axis in grid[len(panels) :]:
            axis.remove()
        if legend:
            _legend(figure, grid[0], axes, {"shades": (shades, colours), "dashes": (dashes, None)})
        return figure


def _draw_curve(axis: Axes, record: TrialRecord, metric: str, colour: Any, dash: Any) -> None:
    pairs = record.reports(metric)
    if not pairs:
        return
    scale = 100 if metric in SHARES else 1
    steps, values = [step for step, _ in pairs], [scale * value for _, value in pairs]
    axis.plot(steps, values, color=colour, linestyle=dash, linewidth=1.3)
    if record.collapsed:
        axis.plot(steps[-1:], values[-1:], "x", color=COLLAPSE, markersize=7, markeredgewidth=2)


def _legend(figure: Figure, axis: Axes, axes: Sequence[str], looks: Mapping[str, tuple[Sequence[Any], Any]]) -> None:
    """Two rows at the top: what the colours mean, what the dashes mean. Left out where there are too many values."""
    (shades, colours), (dashes, _) = looks["shades"], looks["dashes"]
    handles, names = [], []
    if axes and len(shades) <= MOST_CELLS:
        handles += [axis.plot([], [], color=colour)[0] for colour in colours]
        names += [f"{label(axes[0])} {show(value)}" for value in shades]
    if len(axes) > 1 and len(dashes) <= len(DASHES):
        handles += [axis.plot([], [], color=INK, linestyle=DASHES[n])[0] for n in range(len(dashes))]
        names += [f"{label(axes[1])} {show(value)}" for value in dashes]
    if handles:
        figure.legend(handles, names, loc="outside upper left", ncols=4, frameon=False, fontsize=7.5)
