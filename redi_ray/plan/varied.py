"""The same of variants of problems."""

from __future__ import annotations

from dataclasses import dataclass

from redi_ray.config.worlds import BuiltInSource
from redi_ray.data.mix.shares import allocate
from redi_ray.pipeline.asked import VARYING
from redi_ray.pipeline.graph import Graph, Step
from redi_ray.plan.workload import Workload


@dataclass(frozen=True)
class VariedWorkload(Workload):
    """Of variants of problems, which are taken to be as long as these, and as often solved."""

    varied: float = 0.0
    """How many there are."""

    @property
    def problems(self) -> float:
        return self.varied


SOURCES = ("problems", "mix")
"""Kinds that read problems, under names of their own."""


def problems_of(graph: Graph, step: Step, whole: Workload) -> float:
    """Problems of a named source, or of a named mixture of such; as many as the run's own where that is not known."""
    there, settings = whole.sample.sources, step.settings
    if step.kind == "problems":
        return there.get(step.name, whole.problems)
    if any(name not in there for name in settings.of):
        return whole.problems if settings.size is None else settings.size
    return sum(allocate(settings, {name: there[name] for name in settings.of}).taken.values())


def told_of_source(graph: Graph, step: Step, whole: Workload) -> str:
    """What a plan says of problems that are read."""
    if step.own and step.kind == "problems" and step.name not in whole.sample.sources:
        return "a source that is not at hand"
    count = problems_of(graph, step, whole) if step.own else whole.problems
    mixed = f" of {', '.join(step.settings.of)}" if step.kind == "mix" else ""
    return f"{count:,.0f}{mixed}{'' if step.own else ' to learn from'}"


def variants_of(graph: Graph, step: Step, whole: Workload) -> float:
    """Problems that a step which makes variants gives at the most; what is imported is not counted before it is read, and taken
    for as many as there are problems."""
    settings, source = step.settings, graph.steps.get(step.inputs.get("problems", ""))
    world = whole.config.problems.source
    if settings.part != "problems" and isinstance(world, BuiltInSource):
        before: float = world.num_test if settings.part == "test" else world.num_dev
    elif settings.part == "dev":
        before = whole.problems * whole.config.problems.dev.share
    else:
        before = whole.problems
        if source is not None and source.own and source.kind in SOURCES:
            before = problems_of(graph, source, whole)
        elif source is not None and source.kind in VARYING:
            before = variants_of(graph, source, whole)
    return before * max(1, len(settings.rules) + settings.originals)
