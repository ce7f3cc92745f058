"""A verdict for every trace."""

from __future__ import annotations

from redi_ray.pipeline.kinds.kind import Kind
from redi_ray.stages import verification

KIND = Kind(
    name="verify",
    takes={"of": ("traces",)},
    gives="verified",
    place=lambda run, step, inputs: verification.verified_stage(run, inputs["of"]),
    make=lambda run, step, inputs: verification.verified(run, inputs["of"]),
)
