"""The report's figures: score plots, the funnel, training curves; as SVG for the page and PNG for elsewhere.

Colours are Okabe and Ito's, told apart by colour-blind readers; line styles repeat the distinction. In the SVG the ink
is `currentColor`, so that a figure follows the page's light or dark theme; text stays text. No pyplot: its global state
has no place in a library.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from redi_ray.eval.metrics import BenchmarkResult

INK = "#3b3b3c"
MUTED = "#8a8a8c"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "font.family": "sans-serif",
    "svg.fonttype": "none",
    "text.parse_math": False,  # names and reasons come from users and may hold dollar signs
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": MUTED,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "lines.linewidth": 1.6,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


@dataclass(frozen=True)
class Panel:
    """One training metric: arm -> (steps[N], values[N])."""

    title: str
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    log: bool = False
    """Allows a logarithmic axis where the values span more than a decade and a half."""
    noisy: bool = True
    """Long runs show a moving mean in front of the values."""
    dots: bool = False
    """Marks each value: for what is measured now and then."""


@dataclass(frozen=True)
class Line:
    """How an arm looks in every figure."""

    colour: str
    dash: Any

    @property
    def css(self) -> str:
        """The stroke of a legend in the page."""
        return "currentColor" if self.colour == INK else self.colour

    @property
    def dasharray(self) -> str:
        """The same dash in SVG's terms, for a stroke of width 3; empty if solid."""
        return "" if self.dash == "-" else " ".join(f"{2 * length:g}" for length in self.dash[1])


def arm_lines(arms: Sequence[str], plain: Mapping[str, str]) -> dict[str, Line]:
    """A colour for each arm, in `plain` or of the palette; when they run out, colours repeat with another dash."""
    lines, used = {}, 0
    for arm in arms:
        if arm in plain:
            lines[arm] = Line(plain[arm], "-")
        else:
            cycle, index = divmod(used, len(PALETTE))
            # Neighbours differ in dash too: curves that lie on each other stay visible, and so do they in grey.
            lines[arm] = Line(PALETTE[index], DASHES[(index + cycle) % len(DASHES)])
            used += 1
    return lines


def score_figure(results: Mapping[str, Mapping[str, BenchmarkResult]], lines: Mapping[str, Line]) -> Figure:
    """pass@1 of each arm on each benchmark (benchmark -> arm -> result): dot, SEM (thick), 95% interval (thin)."""
    with matplotlib.rc_context(STYLE):
        rows = max(len(arms) for arms in results.values())
        columns = min(len(results), 3)
        height = math.ceil(len(results) / columns)
        figure = Figure(figsize=(4.2 * columns, (0.9 + 0.31 * rows) * height), layout="constrained")
        axes = figure.subplots(height, columns, squeeze=False).flat
        for axis, (benchmark, arms) in zip(axes, results.items(), strict=False):
            _draw_scores(axis, benchmark, arms, lines)
        for axis in list(figure.axes)[len(results) :]:
            axis.remove()
        return figure


def _draw_scores(axis: Axes, benchmark: str, arms: Mapping[str, BenchmarkResult], lines: Mapping[str, Line]) -> None:
    names = list(arms)
    for row, name in enumerate(names):
        result, colour = arms[name], lines[name].colour
        score = 100 * result.pass_at_1
        axis.plot([100 * bound for bound in result.ci95], [row, row], color=colour, linewidth=1.2, alpha=0.7)
        if result.sem is not None:
            spread = 100 * result.sem
            ends = [score - spread, score + spread]
            axis.plot(ends, [row, row], color=colour, linewidth=10, alpha=0.4, solid_capstyle="butt")
        axis.plot([score], [row], "o", color=colour, markersize=4.5)
        axis.annotate(f"{score:.1f}", (score, row), (0, 7), textcoords="offset points", ha="center", fontsize=8)
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.7)
    axis.margins(x=0.08)
    axis.grid(visible=False, axis="y")
    axis.tick_params(axis="y", length=0)
    samples = next(iter(arms.values()))
    axis.set_title(f"{benchmark}: {samples.num_problems} problems x {samples.num_samples}")
    axis.set_xlabel("pass@1, %")


def funnel_figure(funnel: Sequence[Mapping[str, Any]]) -> Figure:
    """A bar per stage, and below it one per reason for which rows were dropped or rejected on the way there."""
    rows: list[tuple[str, int, str]] = []
    for entry in funnel:
        if entry["count"] is None:
            continue
        losses = [(f"- {reason}", n, PALETTE[1]) for reason, n in entry["dropped"].items()]
        losses += [(f"- {reason} (rejected)", n, PALETTE[3]) for reason, n in entry["rejected"].items()]
        rows += [(entry["stage"], entry["count"], PALETTE[0]), *losses]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.4, 0.5 + 0.24 * len(rows)), layout="constrained")
        axis = figure.subplots()
        for row, (_, count, colour) in enumerate(rows):
            main = colour == PALETTE[0]
            axis.barh(row, count, height=0.66 if main else 0.4, color=colour, alpha=1 if main else 0.85)
            axis.annotate(f"{count:,}", (count, row), (4, 0), textcoords="offset points", va="center", fontsize=8)
        axis.set_yticks(range(len(rows)), [label for label, _, _ in rows])
        for label, (_, _, colour) in zip(axis.get_yticklabels(), rows, strict=True):
            label.set_fontweight("bold" if colour == PALETTE[0] else "normal")
        axis.set_ylim(len(rows) - 0.4, -0.6)
        axis.set_xlim(0, 1.12 * max((count for _, count, _ in rows), default=1) or 1)
        axis.tick_params(axis="y", length=0)
        axis.grid(visible=False, axis="y")
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        return figure


def curves_figure(panels: Sequence[Panel], lines: Mapping[str, Line], legend: bool = True) -> Figure:
    """Training curves, two panels a row; the legend is for pictures that stand alone."""
    columns = min(len(panels), 2)
    height = math.ceil(len(panels) / columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.8 * columns, 2.3 * height), layout="constrained")
        axes = list(figure.subplots(height, columns, squeeze=False).flat)
        for axis, panel in zip(axes, panels, strict=False):
            _draw_curves(axis, panel, lines)
        for axis in axes[len(panels) :]:
            axis.remove()
        if legend:
            handles = [
                axes[0].plot([], [], color=lines[n].colour, linestyle=lines[n].dash)[0] for n in panels[0].series
            ]
            figure.legend(handles, list(panels[0].series), loc="outside upper left", ncols=6, frameon=False)
        return figure


def _draw_curves(axis: Axes, panel: Panel, lines: Mapping[str, Line]) -> None:
    finite: list[float] = []
    for name, (steps, raw) in panel.series.items():
        values = np.asarray(raw, dtype=np.float64)
        values[~np.isfinite(values)] = np.nan  # a gap in the line
        finite.extend(values[np.isfinite(values)])
        line = lines[name]
        smooth = _moving_mean(values) if panel.noisy else values
        if smooth is not values:
            axis.plot(steps, values, color=line.colour, linewidth=0.8, alpha=0.3)
        marker = "o" if panel.dots or len(values) == 1 else None
        axis.plot(steps, smooth, color=line.colour, linestyle=line.dash, marker=marker, markersize=3.5)
    if panel.log and finite and min(finite) > 0 and max(finite) > 30 * min(finite):
        axis.set_yscale("log")
        axis.yaxis.set_minor_formatter(NullFormatter())
    if not finite:
        axis.text(0.5, 0.5, "no finite values", transform=axis.transAxes, ha="center", va="center")
    axis.yaxis.set_major_formatter(_short)
    axis.set_title(panel.title)
    axis.set_xlabel("step")
    axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def _short(value: float, _: float) -> str:
    """A tick's label: 0.2, 3e-5. (Matplotlib's own would put the exponent over the title.)"""
    return f"{value:g}".replace("e-0", "e-").replace("e+0", "e").replace("-", "\N{MINUS SIGN}", 1 if value < 0 else 0)


def _moving_mean(values: np.ndarray) -> np.ndarray:
    """Centred mean over about 1/30 of the run, gaps left out: float[N] -> float[N]; short runs come back as they are."""
    half = len(values) // 60
    if half == 0:
        return values
    kernel = np.ones(2 * half + 1)
    present = np.isfinite(values)
    total = np.convolve(np.where(present, values, 0.0), kernel, mode="same")
    count = np.convolve(present.astype(float), kernel, mode="same")
    return np.divide(total, count, out=np.full_like(total, np.nan), where=present)


def to_svg(figure: Figure, name: str, inline: bool = True) -> str:
    """An <svg> element for inlining, or a file of its own on white. `name` salts its internal ids, which must differ between
    the figures of a page."""
    buffer = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        ground = "none" if inline else "white"
        figure.savefig(buffer, format="svg", metadata={"Date": None}, facecolor=ground)
    text = buffer.getvalue()
    if not inline:
        return text
    element = text[text.index("<svg") :].replace(INK, "currentColor")
    return element.replace('id="', f'id="{name}-', 1)


def to_png(figure: Figure) -> bytes:
    """A picture on white."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="png", dpi=160, facecolor="white")
    return buffer.getvalue()
