"""The model before any training here. Random weights learn their tokenizer from traces."""

from __future__ import annotations

from redi_ray.pipeline.kinds.kind import Kind
from redi_ray.stages import model

KIND = Kind(
    name="base",
    takes={"problems": ("problems",), "traces": ("traces",)},
    gives="model",
    place=lambda run, step, inputs: model.base_stage(run, inputs.get("traces")),
    make=lambda run, step, inputs: model.base(run, inputs["problems"], inputs.get("traces")),
)
