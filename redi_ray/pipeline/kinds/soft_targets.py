"""A column: a teacher's distribution over the next token at each token of samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redi_ray.pipeline.kinds.contrast import place, room, scored
from redi_ray.pipeline.kinds.kind import Kind, Outputs
from redi_ray.pipeline.kinds.score import COLUMN
from redi_ray.stages.run import Run
from redi_ray.stages.soft_scoring import SoftTargetsShard
from redi_ray.store.manifests import Manifest

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step


def make(run: Run, step: Step, inputs: Outputs) -> Manifest:
    stage = place(run, step, inputs)
    if found := run.reuse(stage):
        return found
    return scored(run, step, inputs, stage, ("model",), SoftTargetsShard, grain="distribution")


KIND = Kind(
    name="soft_targets",
    takes={"of": ("traces", "verified"), "model": ("model",), "base": ("model",)},
    gives="column",
    stage=COLUMN,
    tables=(COLUMN,),
    place=place,
    make=make,
    room=room,
)
