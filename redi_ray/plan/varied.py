"""The same of variants of problems."""

from __future__ import annotations

from dataclasses import dataclass

from redi_ray.config.worlds import BuiltInSource
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
        before = whole.problems if source is None or source.kind not in VARYING else variants_of(graph, source, whole)
    return before * max(1, len(settings.rules) + settings.originals)
