"""A graph as lines of text: a step each, and rails on its left from the steps that it comes from, as `git log --graph` does."""

from __future__ import annotations

from redi_ray.pipeline.graph import Graph
from redi_ray.report.graph_layout import drawn_inputs

NODE = "*"
"""Stands for the step in its line; the caller may put a sign of its state there."""


def lanes(graph: Graph) -> dict[str, str]:
    """Step -> its rails, with NODE in its own; steps that score a model come right behind it, or it would keep its rail.

    An output has a rail from its step down to the last step that takes it. Example: `problems` taken by two steps, the first of
    which nothing takes: `*`, `├─*`, `*`.
    """
    inputs = drawn_inputs(graph)
    scores = [step for step in graph if step.gives == "scores"]
    order = [
        name
        for step in graph
        if step.gives != "scores"
        for name in (step.name, *(other.name for other in scores if other.inputs["model"] == step.name))
    ]
    last = {name: max((n for n, other in enumerate(order) if name in inputs[other]), default=-1) for name in order}
    rails: list[str | None] = []
    drawn = {}
    for number, name in enumerate(order):
        sources = [lane for lane, source in enumerate(rails) if source in inputs[name]]
        ends = [lane for lane in sources if last[rails[lane] or ""] == number]
        mine = ends[0] if ends else _free(rails, sources)
        line = _line(rails, sources, ends, mine)
        for lane in ends:
            rails[lane] = None
        if last[name] > number:
            rails += [None] * (mine + 1 - len(rails))
            rails[mine] = name
        while rails and rails[-1] is None:
            rails.pop()
        drawn[name] = line
    return drawn


def _free(rails: list[str | None], sources: list[int]) -> int:
    """The first place behind the sources where no rail is."""
    behind = max(sources, default=-1) + 1
    return next((lane for lane in range(behind, len(rails)) if rails[lane] is None), max(behind, len(rails)))


def _line(rails: list[str | None], sources: list[int], ends: list[int], mine: int) -> str:
    """Two characters a rail: its sign, and the line to the next."""
    reach = [*sources, mine]
    first, final = min(reach), max(reach)
    cells = []
    for lane in range(max(len(rails), mine + 1)):
        between = first < lane < final
        if lane == mine:
            sign = NODE
        elif lane in sources:
            left, right = lane > first, lane < final
            sign = {(True, True): "┴┼", (False, True): "╰├", (True, False): "╯┤"}[left, right][lane not in ends]
        elif lane < len(rails) and rails[lane] is not None:
            sign = "┼" if between else "│"
        else:
            sign = "─" if between else " "
        cells.append(sign + ("─" if first <= lane < final else " "))
    return "".join(cells).rstrip()
