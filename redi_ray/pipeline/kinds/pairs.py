"""Positives and pairs of verified traces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redi_ray.cluster.capacity import Demand, demand
from redi_ray.config.embedders import ModelEmbedder
from redi_ray.pipeline.kinds.groups import WEIGHTS, weighing_of
from redi_ray.pipeline.kinds.kind import Kind, Outputs, Places
from redi_ray.stages import data
from redi_ray.stages.run import Run
from redi_ray.store.manifests import Manifest, Stage

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step


def place(run: Run, step: Step, inputs: Places) -> Stage:
    weights = None if step.settings is None else (inputs[WEIGHTS], step.settings)
    return data.curated_stage(run, inputs["problems"], inputs["of"], inputs["base"], inputs.get("chosen_of"), weights)


def make(run: Run, step: Step, inputs: Outputs) -> Manifest:
    weighing = weighing_of(run, step.settings, inputs["of"], inputs)
    weights = None if weighing is None else (inputs[WEIGHTS], weighing)
    return data.curated(run, inputs["problems"], inputs["of"], inputs["base"], inputs.get("chosen_of"), weights)


def room(run: Run, step: Step) -> list[Demand]:
    resources, embedder = run.config.resources, run.config.curate.embedder
    cpus = demand(step.name, [{"CPU": 1.0}] * resources.curate_workers, resources.cpu_label_selector)
    if isinstance(embedder, ModelEmbedder) and embedder.device == "gpu":
        return [cpus, demand(step.name, [{"GPU": 1.0}] * embedder.workers, {})]
    return [cpus]


KIND = Kind(
    name="pairs",
    takes={
        "of": ("verified",),
        "problems": ("problems",),
        "base": ("model",),
        "chosen_of": ("verified",),
        WEIGHTS: ("column",),
    },
    gives="groups",
    stage="curated",
    tables=("pairs", "examples", "similar"),
    place=place,
    make=make,
    room=room,
)
