"""A model's scores on the benchmarks."""

from __future__ import annotations

from redi_ray.pipeline.kinds.kind import MANY, Kind
from redi_ray.pipeline.room import of_engines, of_verifiers
from redi_ray.stages import evaluation

KIND = Kind(
    name="evaluate",
    takes={"model": ("model",), "problems": ("problems",), "base": ("model",), MANY: ("groups",)},
    gives="scores",
    stage="{name}",
    tables=("verified", "traces"),
    place=lambda run, step, inputs: evaluation.evaluation_stage(run, step.inputs["model"], inputs),
    make=lambda run, step, inputs: evaluation.evaluate(run, step.inputs["model"], inputs),
    # one verifier: the others share what is left
    room=lambda run, step: [of_engines(step.name, run.config.resources.engine), of_verifiers(run.config, 1)],
)
