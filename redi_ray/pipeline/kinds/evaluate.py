"""A model's scores on the benchmarks."""

from __future__ import annotations

from redi_ray.pipeline.kinds.kind import Kind
from redi_ray.stages import evaluation

KIND = Kind(
    name="evaluate",
    takes={"model": ("model",), "problems": ("problems",)},
    gives="scores",
    place=lambda run, step, inputs: evaluation.evaluation_stage(
        run, step.inputs["model"], inputs["model"], inputs["problems"]
    ),
    make=lambda run, step, inputs: evaluation.evaluate(run, step.inputs["model"], inputs["model"], inputs["problems"]),
)
