"""A training: from a model, on groups, by an objective."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from redi_ray.pipeline.kinds.kind import Kind, Outputs, Places
from redi_ray.pipeline.room import of_trainer
from redi_ray.stages import training
from redi_ray.stages.run import Run
from redi_ray.store.manifests import Manifest, Stage

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step


_preparing = Lock()
"""Trainings on the same data share its tokens and log-probs, which one of them makes."""


def place(run: Run, step: Step, inputs: Places) -> Stage:
    return training.place(run, step.name, step.settings, inputs)


def make(run: Run, step: Step, inputs: Outputs) -> Manifest:
    with _preparing:
        prepared = training.prepare(run, step.name, step.settings, inputs)
    return training.train(run, prepared)


KIND = Kind(
    name="train",
    takes={
        "start": ("model",),
        "groups": ("groups",),
        "base": ("model",),
        "dev": ("dev",),
        training.REHEARSED: ("groups",),
    },
    gives="model",
    stage="checkpoints/{name}",
    place=place,
    make=make,
    room=lambda run, step: [of_trainer(f"workers of {step.name}", step.settings.trainer)],
    parts={"sequences/examples": None, "sequences/pairs": None, "sequences/groups": None},
)
