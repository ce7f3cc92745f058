"""Verdicts by a number, for traces that have nothing else to be verified by."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from redi_ray.data.sources.readers import DataError
from redi_ray.data.verify.grade import GRADE, grade_traces
from redi_ray.pipeline.kinds.kind import Kind, Outputs, Places
from redi_ray.stages.origins import by_source
from redi_ray.stages.run import Run
from redi_ray.stages.verification import verdict_counts
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest, Stage

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step

VERIFIED = "verified"


def place(run: Run, step: Step, inputs: Places) -> Stage:
    return run.stage(VERIFIED, {"grade": step.settings}, {role: inputs[role] for role in ("of", "by")}, version=2)


def make(run: Run, step: Step, inputs: Outputs) -> Manifest:
    stage = place(run, step, inputs)
    if found := run.reuse(stage):
        return found
    started, of = time.monotonic(), inputs["of"]
    table = storage.join(stage.uri, VERIFIED)
    counts = grade_traces(of.table(VERIFIED), inputs["by"].table("column"), table, step.settings)
    if counts["others"] == sum(counts.values()):
        raise DataError(
            f"{step.name}: every trace of {step.inputs['of']} has a reference answer, tests, or a verdict; there is nothing to "
            "grade, so leave the step out"
        )
    facts = {"name": step.name, "graded": {key.removeprefix("graded/"): n for key, n in sorted(counts.items())}}
    facts |= verdict_counts(storage.list_files(table, ".parquet")) | by_source(
        run, stage, VERIFIED, inputs.get("problems")
    )
    rows = sum(counts.values())
    return run.publish(stage, started, counts={"in": rows, "out": rows}, facts=facts)


KIND = Kind(
    name=GRADE,
    takes={"of": ("verified",), "by": ("column",), "problems": ("problems",)},
    gives="verified",
    stage=VERIFIED,
    tables=(VERIFIED,),
    place=place,
    make=make,
)
