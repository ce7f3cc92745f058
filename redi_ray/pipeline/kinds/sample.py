"""Traces of problems: sampled from a model in rounds, asked of an endpoint, or imported with the problems."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redi_ray.cluster.capacity import Demand
from redi_ray.config.data import VllmTraces
from redi_ray.pipeline.kinds.kind import Kind
from redi_ray.pipeline.room import of_engines, of_verifiers
from redi_ray.stages import data
from redi_ray.stages.run import Run

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step


def room(run: Run, step: Step) -> list[Demand]:
    """Engines, and between rounds what verifies them."""
    settings = run.config.generate
    if not isinstance(settings, VllmTraces):
        return [of_verifiers(run.config)]
    return [of_engines(step.name, settings.engine or run.config.resources.engine), of_verifiers(run.config)]


KIND = Kind(
    name="sample",
    takes={"problems": ("problems", "starts"), "model": ("model",)},
    gives="traces",
    stage="traces",
    tables=("traces",),
    place=lambda run, step, inputs: data.traces_stage(run, inputs["problems"], inputs.get("model")),
    make=lambda run, step, inputs: data.traces(run, inputs["problems"], inputs.get("model")),
    room=room,
)
