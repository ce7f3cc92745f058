"""Distinct problems of one source, the run's own or that of a named step, with the traces that came with them."""

from __future__ import annotations

from redi_ray.pipeline.kinds.kind import Kind
from redi_ray.stages import problems

KIND = Kind(
    name="problems",
    takes={},
    gives="problems",
    stage="problems",
    tables=("problems",),
    place=lambda run, step, inputs: problems.problems_stage(run, step.settings),
    make=lambda run, step, inputs: problems.problems(run, step.settings),
)
