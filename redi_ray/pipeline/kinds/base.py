"""The model before any training here. Random weights learn their tokenizer from traces, or from what is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

from redi_ray.cluster.capacity import Demand
from redi_ray.config.student import ArithmeticModel
from redi_ray.pipeline.kinds.kind import MANY, Kind
from redi_ray.pipeline.room import of_trainer
from redi_ray.stages import model
from redi_ray.stages.run import Run

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step

T = TypeVar("T")


def room(run: Run, step: Step) -> list[Demand]:
    """Workers where it is trained here."""
    trained = isinstance(run.config.model.init, ArithmeticModel)
    return [of_trainer(f"workers of {step.name}", run.config.resources.trainer)] if trained else []


def learnt_from(inputs: Mapping[str, T]) -> dict[str, T]:
    """The inputs whose texts make the tokenizer of random weights."""
    return {role: made for role, made in inputs.items() if role != "problems"}


KIND = Kind(
    name="base",
    takes={"problems": ("problems",), "traces": ("traces",), MANY: ("groups",)},
    gives="model",
    stage="checkpoints/{name}",
    place=lambda run, step, inputs: model.base_stage(run, learnt_from(inputs)),
    make=lambda run, step, inputs: model.base(run, inputs.get("problems"), learnt_from(inputs)),
    room=room,
)
