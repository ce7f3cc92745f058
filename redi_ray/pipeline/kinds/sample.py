"""Traces of problems: sampled from a model in rounds, asked of an endpoint, or imported with the problems."""

from __future__ import annotations

from redi_ray.pipeline.kinds.kind import Kind
from redi_ray.stages import data

KIND = Kind(
    name="sample",
    takes={"problems": ("problems",), "model": ("model",)},
    gives="traces",
    place=lambda run, step, inputs: data.traces_stage(run, inputs["problems"], inputs.get("model")),
    make=lambda run, step, inputs: data.traces(run, inputs["problems"], inputs.get("model")),
)
