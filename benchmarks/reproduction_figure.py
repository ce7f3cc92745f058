"""The reproduction in one picture: development score by learning rate, test score by arm, and how log-probs moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from reproduction_runs import ARMS, LOGPS, Outcome

from redi_ray.report.figures import DASHES, PALETTE, STYLE

CURVES = ("alpha 0", "alpha 0.2", "alpha 0.5", "alpha 0.8", "alpha 1")


def look(arm: str) -> dict[str, Any]:
    number = list(ARMS).index(arm)
    return {"color": PALETTE[number % len(PALETTE)], "linestyle": DASHES[number // 3 % len(DASHES)], "label": arm}


def draw(outcomes: Sequence[Outcome], result: Mapping[str, Any], path: Path) -> None:
    """Write the PNG."""
    with matplotlib.rc_context({**STYLE, "figure.facecolor": "white", "savefig.facecolor": "white"}):
        figure = Figure(figsize=(13, 4), layout="constrained")
        FigureCanvasAgg(figure)
        left, middle, right = figure.subplots(1, 3, width_ratios=(1.1, 1, 1.1))
        by_rate(left, outcomes)
        by_arm(middle, result)
        log_probs(right, outcomes)
        figure.savefig(path, dpi=130)


def by_rate(axes: Axes, outcomes: Sequence[Outcome]) -> None:
    rates = sorted({o.learning_rate for o in outcomes})
    for arm in ARMS:
        means = [np.mean([o.dev for o in outcomes if (o.arm, o.learning_rate) == (arm, rate)]) for rate in rates]
        axes.plot(rates, np.array(means) * 100, marker="o", markersize=3.5, **look(arm))
    axes.set_xscale("log")
    axes.set_xticks(rates, [f"{rate:.0e}".replace("e-0", "e-") for rate in rates])
    axes.minorticks_off()
    axes.set_title("development pass@1 by learning rate, %")
    axes.set_xlabel("peak learning rate")
    axes.legend(fontsize=8, frameon=False)


def by_arm(axes: Axes, result: Mapping[str, Any]) -> None:
    arms = result["arms"]
    for number, arm in enumerate(arms):
        colour = PALETTE[0] if arm["name"] == result["redi"] else "#8a8a8c"
        axes.plot(np.array(arm["per_seed"]) * 100, [number] * len(arm["per_seed"]), ".", color=colour, alpha=0.4)
        axes.errorbar(arm["mean"] * 100, number, xerr=arm["sem"] * 100, fmt="o", color=colour, capsize=3)
    axes.set_yticks(range(len(arms)), [arm["name"] for arm in arms])
    axes.invert_yaxis()
    axes.set_title("test pass@1, mean ± SEM, a dot per seed, %")


def log_probs(axes: Axes, outcomes: Sequence[Outcome]) -> None:
    """At the highest learning rate, where collapse shows first; means over seeds. Dotted: rejected."""
    highest = max(o.learning_rate for o in outcomes)
    for arm in CURVES:
        found = [o for o in outcomes if (o.arm, o.learning_rate) == (arm, highest)]
        for name, dash in zip(LOGPS, ("-", ":"), strict=True):
            length = min(len(o.curves[name]) for o in found)
            mean = np.mean([o.curves[name][:length] for o in found], axis=0)
            axes.plot(mean, color=look(arm)["color"], linestyle=dash, label=arm if dash == "-" else None)
    axes.set_title(f"log-prob per token at {highest:g}, dotted: rejected")
    axes.set_xlabel("step")
    axes.legend(fontsize=8, frameon=False)
