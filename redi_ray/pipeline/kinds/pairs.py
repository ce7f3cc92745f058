"""Positives and pairs of verified traces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redi_ray.cluster.capacity import Demand, demand
from redi_ray.pipeline.kinds.kind import Kind, Outputs
from redi_ray.stages import data
from redi_ray.stages.run import Run
from redi_ray.store.manifests import Manifest

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step


def make(run: Run, step: Step, inputs: Outputs) -> Manifest:
    return data.curated(run, inputs["problems"], inputs["of"], inputs["base"], inputs.get("chosen_of"))


def room(run: Run, step: Step) -> list[Demand]:
    resources = run.config.resources
    return [demand(step.name, [{"CPU": 1.0}] * resources.curate_workers, resources.cpu_label_selector)]


KIND = Kind(
    name="pairs",
    takes={"of": ("verified",), "problems": ("problems",), "base": ("model",), "chosen_of": ("verified",)},
    gives="groups",
    stage="curated",
    tables=("pairs", "examples"),
    place=lambda run, step, inputs: data.curated_stage(
        run, inputs["problems"], inputs["of"], inputs["base"], inputs.get("chosen_of")
    ),
    make=make,
    room=room,
)
