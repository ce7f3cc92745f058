"""The model before any training here. Random weights learn their tokenizer from traces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redi_ray.cluster.capacity import Demand
from redi_ray.config.student import ArithmeticModel
from redi_ray.pipeline.kinds.kind import Kind
from redi_ray.pipeline.room import of_trainer
from redi_ray.stages import model
from redi_ray.stages.run import Run

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step


def room(run: Run, step: Step) -> list[Demand]:
    """Workers where it is trained here."""
    trained = isinstance(run.config.model.init, ArithmeticModel)
    return [of_trainer(f"workers of {step.name}", run.config.resources.trainer)] if trained else []


KIND = Kind(
    name="base",
    takes={"problems": ("problems",), "traces": ("traces",)},
    gives="model",
    stage="checkpoints/{name}",
    place=lambda run, step, inputs: model.base_stage(run, inputs.get("traces")),
    make=lambda run, step, inputs: model.base(run, inputs["problems"], inputs.get("traces")),
    room=room,
)
