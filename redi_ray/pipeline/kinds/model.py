"""A model beside the student's: one that exists, or one of the built-in world's of a size of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redi_ray.cluster.capacity import Demand
from redi_ray.config.student import ArithmeticModel
from redi_ray.pipeline.kinds.kind import Kind, Outputs, Places
from redi_ray.pipeline.room import of_trainer
from redi_ray.stages import model
from redi_ray.stages.run import Run
from redi_ray.store.manifests import Manifest, Stage

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step


def place(run: Run, step: Step, inputs: Places) -> Stage:
    return model.base_stage(run, {}, step.settings.init, step.name)


def make(run: Run, step: Step, inputs: Outputs) -> Manifest:
    return model.base(run, inputs.get("problems"), {}, step.settings.init, step.name)


def room(run: Run, step: Step) -> list[Demand]:
    """Workers where it is trained here."""
    trained = isinstance(step.settings.init, ArithmeticModel)
    return [of_trainer(f"workers of {step.name}", run.config.resources.trainer)] if trained else []


KIND = Kind(
    name="model",
    takes={"problems": ("problems",)},
    gives="model",
    stage="checkpoints/{name}",
    place=place,
    make=make,
    room=room,
)
