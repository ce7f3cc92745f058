"""Groups to train on that people have: preferences, answers, labelled answers, samples with rewards."""

from __future__ import annotations

from redi_ray.pipeline.kinds.kind import Kind
from redi_ray.stages import imported

KIND = Kind(
    name="import",
    takes={},
    gives="groups",
    stage="imported",
    tables=("pairs", "examples", "groups"),
    place=lambda run, step, inputs: imported.imported_stage(run, step.settings),
    make=lambda run, step, inputs: imported.imported(run, step.settings),
)
