"""Where the steps of a graph stand when it is drawn: which lines are worth drawing, in which row and place each step is.

Rows go down with the longest way from a step without inputs. Steps that only score a model stand beside it. A line that passes
rows has a place of its own in each of them, so that it runs between the steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from redi_ray.pipeline.graph import Graph, Step

SIDE_TYPES = ("problems", "dev")
SIDE_ROLES = ("base",)
"""Inputs that nearly every step has: they are drawn where nothing else shows that the step comes from them."""
SWEEPS = 40
STRAIGHT = 12.0
"""How much harder than others a line that passes rows, or one between two steps of a chain, is drawn straight."""
SCORES_WIDTH = 0.4
"""Of what stands beside a model, in widths of a step."""
Point = tuple[str, int]
"""A step in its row, or the place of a line to that step in a row above it: (`from>to`, row)."""


@dataclass(frozen=True)
class Layout:
    """x in widths of a step, rows from the top."""

    row: Mapping[str, int]
    x: Mapping[str, float]
    scores: Mapping[str, str]
    """Model -> the step that scores it."""
    lines: Sequence[tuple[str, str, list[tuple[float, float]]]]
    """From, to, and (x, row) of each place on the way, both ends included."""


def drawn_inputs(graph: Graph) -> dict[str, list[str]]:
    """Step -> the steps that a line comes from."""
    before: dict[str, set[str]] = {}
    for step in graph:
        direct = set(step.inputs.values())
        before[step.name] = direct.union(*(before[name] for name in direct))
    found: dict[str, list[str]] = {}
    for step in graph:
        names = list(dict.fromkeys(step.inputs.values()))
        plain = {name for role, name in step.inputs.items() if not _beside(role, graph[name])}
        implied = set().union(*(before[name] for name in names))
        found[step.name] = [name for name in names if name in plain or name not in implied]
    return found


def _beside(role: str, source: Step) -> bool:
    return role in SIDE_ROLES or source.gives in SIDE_TYPES


def layout(graph: Graph) -> Layout:
    """Rows by longest way, order in a row by where the neighbours stand, then as straight as there is room."""
    scores = {step.inputs["model"]: step.name for step in graph if step.gives == "scores"}
    asked = {
        name: model for model, name in scores.items()
    }  # an evaluation stands with its model, as what it is taken from
    drawn = drawn_inputs(graph).items()
    inputs = {
        name: list(dict.fromkeys(asked.get(one, one) for one in found)) for name, found in drawn if name not in asked
    }
    row: dict[str, int] = {}
    for name, sources in inputs.items():
        row[name] = max((row[source] + 1 for source in sources), default=0)
    for name in reversed(list(inputs)):  # what nothing comes before stands just above what it is for
        after = [row[other] for other, sources in inputs.items() if name in sources]
        if not inputs[name] and after:
            row[name] = min(after) - 1
    lowest = min(row.values(), default=0)
    row = {name: number - lowest for name, number in row.items()}
    chains = {(source, name): _chain(source, name, row) for name, sources in inputs.items() for source in sources}
    rows: list[list[Point]] = [[] for _ in range(max(row.values(), default=-1) + 1)]
    for name, number in row.items():
        rows[number].append((name, number))
    for chain in chains.values():
        for point in chain[1:-1]:
            rows[point[1]].append(point)
    above: dict[Point, list[Point]] = {}
    below: dict[Point, list[Point]] = {}
    for chain in chains.values():
        for one, other in pairwise(chain):
            above.setdefault(other, []).append(one)
            below.setdefault(one, []).append(other)
    _order(rows, above, below)
    sides = {point: _sides(point, scores) for points in rows for point in points}
    x = _place(rows, above, below, sides)
    lines = [(a, b, [(x[point], float(point[1])) for point in chain]) for (a, b), chain in chains.items()]
    return Layout(row, {name: x[name, number] for name, number in row.items()}, scores, lines)


def _chain(source: str, name: str, row: Mapping[str, int]) -> list[Point]:
    between = [(f"{source}>{name}", number) for number in range(row[source] + 1, row[name])]
    return [(source, row[source]), *between, (name, row[name])]


def _sides(point: Point, scores: Mapping[str, str]) -> tuple[float, float]:
    """Room to the left and to the right of the middle."""
    if _passes(point):
        return 0.1, 0.1
    return 0.55, 0.55 + (SCORES_WIDTH if point[0] in scores else 0.0)


def _passes(point: Point) -> bool:
    return ">" in point[0]


def _order(rows: list[list[Point]], above: Mapping[Point, list[Point]], below: Mapping[Point, list[Point]]) -> None:
    """Order each row by the mean place of the neighbours above, then below, some times over."""
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        near, order = (above, rows[1:]) if down else (below, rows[-2::-1])
        place = {point: number / max(1, len(points) - 1 or 1) for points in rows for number, point in enumerate(points)}
        for points in order:
            own = {point: place[point] for point in points}
            mean = {
                point: sum(place[other] for other in near[point]) / len(near[point]) if near.get(point) else own[point]
                for point in points
            }
            points.sort(key=lambda point: (mean[point], own[point]))
            place.update({point: number / max(1, len(points) - 1 or 1) for number, point in enumerate(points)})


def _place(
    rows: list[list[Point]],
    above: Mapping[Point, list[Point]],
    below: Mapping[Point, list[Point]],
    sides: Mapping[Point, tuple[float, float]],
) -> dict[Point, float]:
    """x of each point: near its neighbours, none on another. Lines and chains of steps are held straight."""

    def pull(one: Point, other: Point) -> float:
        passing = _passes(one) + _passes(other)
        return STRAIGHT if passing == 2 or (not passing and _chained(one, other, above, below)) else 1.0

    x: dict[Point, float] = {}
    for points in rows:
        _spread(points, dict.fromkeys(points, 0.0), sides, x)
    for sweep in range(2 * SWEEPS):
        for points in rows if sweep % 2 else reversed(rows):
            wanted = {}
            for point in points:
                near = [(other, pull(point, other)) for other in (*above.get(point, []), *below.get(point, []))]
                total = sum(weight for _, weight in near)
                wanted[point] = sum(weight * x[other] for other, weight in near) / total if near else x[point]
            _spread(points, wanted, sides, x)
    left = min((x[point] - sides[point][0] for point in x), default=0.0)
    return {point: value - left for point, value in x.items()}


def _chained(one: Point, other: Point, above: Mapping[Point, list[Point]], below: Mapping[Point, list[Point]]) -> bool:
    upper, lower = sorted((one, other), key=lambda point: point[1])
    steps = [point for point in above.get(lower, []) if not _passes(point)]
    return steps == [upper] and len([point for point in below.get(upper, []) if not _passes(point)]) == 1


def _spread(
    points: list[Point],
    wanted: Mapping[Point, float],
    sides: Mapping[Point, tuple[float, float]],
    x: dict[Point, float],
) -> None:
    """The places nearest to the wanted ones (least squares) that keep the order and the distances."""
    blocks: list[tuple[float, int]] = []  # where a block begins, members
    offsets, extent = [], 0.0
    for number, point in enumerate(points):
        if number:
            extent += sides[points[number - 1]][1] + sides[point][0]
        offsets.append(extent)
        mean, members = wanted[point] - extent, 1
        while blocks and blocks[-1][0] >= mean:
            other, count = blocks.pop()
            mean, members = (other * count + mean * members) / (count + members), count + members
        blocks.append((mean, members))
    starts = [mean for mean, members in blocks for _ in range(members)]
    x.update({point: start + offset for point, start, offset in zip(points, starts, offsets, strict=True)})
