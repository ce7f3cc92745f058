"""The comparison of `rollouts.py` in one picture: development score by learning rate, and test scores by arm, of problems of the
kind learnt from and of the other one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from wrong_parts_figure import by_rate, look

from redi_ray.report.figures import STYLE

TITLES = {"in": "Sums and differences, as learnt from", "out": "With products, never learnt from"}


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Write the PNG, three panels."""
    with matplotlib.rc_context({**STYLE, "figure.facecolor": "white", "savefig.facecolor": "white"}):
        figure = Figure(figsize=(14, 5.5), layout="constrained")
        FigureCanvasAgg(figure)
        rates, *parts = figure.subplots(1, 3, width_ratios=(1.2, 1, 1))
        by_rate(rates, result, "all samples or a pair")
        rates.set_title("All samples of a problem, or a pair of it\ndevelopment pass@1 by learning rate, %")
        for axes, (part, title) in zip(parts, TITLES.items(), strict=True):
            by_arm(axes, result, part, title)
        figure.savefig(path, dpi=130)


def by_arm(axes: Axes, result: Mapping[str, Any], part: str, title: str) -> None:
    """pass@1 with a dot for each world, and pass@k as a ring."""
    arms, k = list(result["arms"]), result["samples"]
    for number, (name, arm) in enumerate(result["arms"].items()):
        colour, one, many = look(name, arms)["color"], arm[f"{part} pass_at_1"], arm[f"{part} pass_at_{k}"]
        axes.plot(one["per_seed"], [number] * len(one["per_seed"]), ".", color=colour, alpha=0.4)
        axes.errorbar(one["mean"], number, xerr=one["sem"], fmt="o", color=colour, capsize=3)
        axes.errorbar(many["mean"], number, xerr=many["sem"], fmt="o", color=colour, capsize=3, fillstyle="none")
    axes.set_yticks(range(len(arms)), arms)
    axes.invert_yaxis()
    axes.set_title(f"{title}\npass@1 (●) and pass@{k} (○), %")
