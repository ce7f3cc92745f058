"""The comparison of `wrong_parts.py` in one picture: for each kind of world development score by learning rate, test score by
arm, and test score by how many misconceptions a solution meets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from redi_ray.report.figures import DASHES, PALETTE, STYLE

START = "#8a8a8c"
MARKERS = "os^"
TITLES = {"digits": "steps and tokens", "tools": "turns with a tool"}


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Write the PNG, a row of three panels for each kind of world."""
    with matplotlib.rc_context({**STYLE, "figure.facecolor": "white", "savefig.facecolor": "white"}):
        figure = Figure(figsize=(13, 4 * len(result)), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(len(result), 3, squeeze=False, width_ratios=(1.2, 1, 1))
        for row, (world, found) in zip(grid, result.items(), strict=True):
            by_rate(row[0], found, TITLES[world])
            by_arm(row[1], found)
            by_misconceptions(row[2], found)
        figure.savefig(path, dpi=130)


def look(arm: str, arms: list[str]) -> dict[str, Any]:
    """Its colour and line, the same in all panels of a row; the first arm is what all others start from."""
    number = arms.index(arm) - 1
    if number < 0:
        return {"color": START, "linestyle": "-", "label": arm, "marker": "o"}
    dash, marker = DASHES[number // 3 % len(DASHES)], MARKERS[number // (3 * len(DASHES)) % len(MARKERS)]
    return {"color": PALETTE[number % len(PALETTE)], "linestyle": dash, "label": arm, "marker": marker}


def by_rate(axes: Axes, found: Mapping[str, Any], title: str) -> None:
    arms = list(found["arms"])
    rates = sorted({float(rate) for means in found["dev"].values() for rate in means})
    for arm, means in found["dev"].items():
        mine = sorted((float(rate), 100 * mean) for rate, mean in means.items())
        axes.plot(*zip(*mine, strict=True), markersize=3.5, **look(arm, arms))
    axes.set_xscale("log")
    axes.set_xticks(rates, [f"{rate:.1e}".replace("e-0", "e-").replace(".0e", "e") for rate in rates])
    axes.minorticks_off()
    axes.set_title(f"{title}: development pass@1 by learning rate, %")
    axes.set_xlabel("peak learning rate")
    axes.legend(fontsize=8, frameon=False)


def by_arm(axes: Axes, found: Mapping[str, Any]) -> None:
    arms = list(found["arms"])
    for number, (name, arm) in enumerate(found["arms"].items()):
        colour = look(name, arms)["color"]
        axes.plot(arm["per_seed"], [number] * len(arm["per_seed"]), ".", color=colour, alpha=0.4)
        axes.errorbar(arm["mean"], number, xerr=arm["sem"], fmt="o", color=colour, capsize=3)
    axes.set_yticks(range(len(arms)), arms)
    axes.invert_yaxis()
    axes.set_title("test pass@1, mean ± SEM, a dot per world, %")


def by_misconceptions(axes: Axes, found: Mapping[str, Any]) -> None:
    arms = list(found["arms"])
    for name, arm in found["arms"].items():
        numbers = sorted(arm["by_misconceptions"])
        values = np.array([arm["by_misconceptions"][number] for number in numbers])
        axes.plot(range(len(numbers)), values, markersize=3.5, **look(name, arms))
    axes.set_xticks(range(len(numbers)), [number.replace("3", "3 and more") for number in numbers])
    axes.set_title("test pass@1 by misconceptions met, %")
    axes.set_xlabel("facts of the solution with a misconception")
