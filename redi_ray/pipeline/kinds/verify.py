"""A verdict for every trace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redi_ray.cluster.capacity import Demand
from redi_ray.pipeline.kinds.kind import Kind
from redi_ray.pipeline.room import of_engines, of_verifiers
from redi_ray.stages import verification
from redi_ray.stages.run import Run

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step


def room(run: Run, step: Step) -> list[Demand]:
    """The first pass, then the judge."""
    judge, found = run.config.verify.judge, [of_verifiers(run.config)]
    if judge is not None and judge.model is not None:
        found.append(of_engines(step.name, judge.engine or run.config.resources.engine))
    return found


KIND = Kind(
    name="verify",
    takes={"of": ("traces",), "problems": ("problems",)},
    gives="verified",
    stage="verified",
    tables=("verified",),
    place=lambda run, step, inputs: verification.verified_stage(run, inputs["of"]),
    make=lambda run, step, inputs: verification.verified(run, inputs["of"], inputs.get("problems")),
    room=room,
    parts={"checked": "checked", "judged": "judged"},
)
