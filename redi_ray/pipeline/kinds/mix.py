"""Problems of several sources, by shares."""

from __future__ import annotations

from redi_ray.pipeline.kinds.kind import MANY, Kind
from redi_ray.stages import mixing
from redi_ray.stages.problems import mix_stage

KIND = Kind(
    name="mix",
    takes={MANY: ("problems",)},
    gives="problems",
    stage="problems",
    tables=("problems",),
    place=lambda run, step, inputs: mix_stage(run, step.settings),
    make=lambda run, step, inputs: mixing.mixed(run, step.name, step.settings, inputs),
)
