"""What a search's parameters do, as a picture: a panel for each with its levels' means, one for the two that interact most."""

from __future__ import annotations

import math

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from redi_ray.report.figures import INK, MUTED, STYLE
from redi_ray.report.search_figures import SCALE, TITLES
from redi_ray.search.effects import Effects
from redi_ray.search.results import SHARES
from redi_ray.search.space import short_names, show

COLUMNS = 3


def effects_figure(found: Effects, metric: str) -> Figure:
    """All panels share the metric's axis, so that what matters looks as if it did."""
    paths = list(dict.fromkeys(level.path for level in found.levels))
    panels = len(paths) + bool(found.cells)
    columns = 2 if panels == 4 else min(COLUMNS, panels)
    rows = math.ceil(panels / columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.1 * columns, 0.5 + 2.4 * rows), layout="constrained")
        axes = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flat)
        for axis, path, name in zip(axes, paths, short_names(paths), strict=False):
            _means(axis, [level for level in found.levels if level.path == path], name, metric)
        if found.cells:
            _lines(axes[len(paths)], found, metric)
        for axis in axes[panels:]:
            axis.remove()
        figure.supylabel(TITLES.get(metric, metric), fontsize=8)
    return figure


def _scale(metric: str) -> float:
    return 100.0 if metric in SHARES else 1.0


def _means(axis: Axes, levels: list, name: str, metric: str) -> None:
    scale, places = _scale(metric), range(len(levels))
    means = [scale * level.mean for level in levels]
    axis.errorbar(places, means, yerr=[scale * (level.sem or 0.0) for level in levels], fmt="o-", color=INK, capsize=3)
    for place, mean in zip(places, means, strict=True):
        text = f"{mean:.1f}" if metric in SHARES else f"{mean:.3g}"
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.8}
        axis.annotate(
            text, (place, mean), xytext=(7, 6), textcoords="offset points", fontsize=7.5, color=MUTED, bbox=box
        )
    axis.set_xticks(places, [show(level.value) for level in levels])
    axis.set_xlim(-0.5, len(levels) - 0.5)
    axis.set_title(name)


def _lines(axis: Axes, found: Effects, metric: str) -> None:
    """The first interaction: a line for each value of its second parameter. Parallel lines would be no interaction."""
    down, across = short_names(found.interactions[0].paths)
    lines = list(dict.fromkeys(cell.values[1] for cell in found.cells))
    places = list(dict.fromkeys(cell.values[0] for cell in found.cells))
    for line, colour in zip(lines, matplotlib.colormaps[SCALE](np.linspace(0, 0.8, len(lines))), strict=True):
        mine = {cell.values[0]: _scale(metric) * cell.mean for cell in found.cells if cell.values[1] == line}
        at = [place for place, value in enumerate(places) if value in mine]
        axis.plot(at, [mine[places[place]] for place in at], "o-", color=colour, label=show(line))
    axis.set_xticks(range(len(places)), [show(value) for value in places])
    axis.set_xlim(-0.5, len(places) - 0.5)
    axis.set_title(f"{down} and {across}")
    axis.legend(title=across, fontsize=7, title_fontsize=7, frameon=False)
