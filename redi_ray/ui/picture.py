"""A run's graph as SVG: where each box and line is. The template draws them, the style colours them by their class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from redi_ray.pipeline.graph import Graph
from redi_ray.pipeline.rounds import round_of
from redi_ray.pipeline.states import State
from redi_ray.report.graph_layout import layout
from redi_ray.report.under_way import Work

WIDTH, HEIGHT = 150.0, 66.0
"""Of a step and of a row, in pixels."""
BOX, TALL = 140.0, 40.0
"""Of a step's box."""
PILL = 50.0
"""Width of the box for a model's scores."""
LONGEST = 19
"""Letters of a name that fit."""


@dataclass(frozen=True)
class Box:
    """A step. x, y: of its upper left corner."""

    name: str
    shown: str
    kind: str
    told: str
    """On pointing at it."""
    state: str
    """A class of the style."""
    x: float
    y: float
    width: float
    tall: float
    share: float | None
    """Done, of a step under way."""
    link: str | None


@dataclass(frozen=True)
class Frame:
    """Of a round."""

    number: int
    x: float
    y: float
    width: float
    tall: float


@dataclass(frozen=True)
class Picture:
    """All of it, in pixels."""

    width: float
    height: float
    boxes: list[Box]
    lines: list[str]
    """Paths."""
    frames: list[Frame]


def picture(
    graph: Graph, states: Sequence[State], works: Sequence[Work], links: Mapping[str, str], *, running: bool
) -> Picture:
    """links: step -> where its box leads."""
    placed, state = layout(graph), {found.step.name: found for found in states}
    work = {each.step: each for each in works}

    def box(name: str, x: float, y: float, width: float, tall: float, shown: str) -> Box:
        found, at = state.get(name), work.get(name)
        standing = found.standing if found else "missing"
        why = f": {found.why}" if found and found.why else ""
        share = at.done / at.total if at and at.total else None
        kind = graph[name].kind
        drawn = "working" if running and at is not None else standing.replace(" ", "-")
        told = f"{name} ({kind}): {'under way' if drawn == 'working' else standing}{why}"
        return Box(name, shown, kind, told, drawn, x, y, width, tall, share, links.get(name))

    boxes, right = [], 0.0
    for name, at in placed.x.items():
        left, top = WIDTH * at - BOX / 2, HEIGHT * placed.row[name] + 14
        boxes.append(box(name, left, top, BOX, TALL, _short(name)))
        right = max(right, left + BOX)
        if name in placed.scores:
            boxes.append(box(placed.scores[name], left + BOX + 4, top + 8, PILL, TALL - 16, "scores"))
            right = max(right, left + BOX + 4 + PILL)
    right = max([right, *(WIDTH * x for _, _, places in placed.lines for x, _ in places)])
    rows = max(placed.row.values(), default=0) + 1
    frames = _frames([each for each in boxes if each.shown != "scores" or each.name in placed.x])
    return Picture(right + 6, HEIGHT * rows, boxes, [_path(places) for _, _, places in placed.lines], frames)


def _path(places: Sequence[tuple[float, float]]) -> str:
    """From a box's lower edge to another's upper edge, in soft bends; straight beside the boxes of a row."""
    (x, row), *rest = places
    at, y = WIDTH * x, HEIGHT * row + 14 + TALL
    path = [f"M{at:.1f} {y:.1f}"]
    for number, (x, row) in enumerate(rest):
        to, top = WIDTH * x, HEIGHT * row + 14
        half = (y + top) / 2
        path.append(f"C{at:.1f} {half:.1f} {to:.1f} {half:.1f} {to:.1f} {top:.1f}")
        at, y = to, top
        if number < len(rest) - 1:
            y = top + TALL
            path.append(f"L{at:.1f} {y:.1f}")
    return "".join(path)


def _frames(boxes: Sequence[Box]) -> list[Frame]:
    rounds: dict[int, list[Box]] = {}
    for box in boxes:
        if (number := round_of(box.name)[1]) is not None:
            rounds.setdefault(number, []).append(box)
    found = []
    for number, members in rounds.items():
        left, top = min(box.x for box in members) - 5, min(box.y for box in members) - 13
        right, bottom = max(box.x + box.width for box in members) + 5, max(box.y + box.tall for box in members) + 6
        found.append(Frame(number, left, top, right - left, bottom - top))
    return found


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
