"""The development problems that models are measured on while they train."""

from __future__ import annotations

from redi_ray.pipeline.kinds.kind import Kind
from redi_ray.stages.dev_problems import dev_problems

KIND = Kind(
    name="dev",
    takes={"problems": ("problems",)},
    gives="dev",
    stage="dev",
    tables=("dev",),
    place=lambda run, step, inputs: None,  # which are left out is known when problems and benchmarks have been read
    make=lambda run, step, inputs: dev_problems(run, inputs["problems"]),
)
