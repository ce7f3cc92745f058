"""How much accuracy variants of problems cost a model."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from redi_ray.data.sources.readers import DataError
from redi_ray.eval.robustness import NO_ORIGINAL, hold_against
from redi_ray.pipeline.kinds.kind import Kind, Outputs, Places
from redi_ray.stages.remote import remotely
from redi_ray.stages.run import Run
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest, Stage

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step

ROBUSTNESS = "robustness"
TO = "to"
"""The input that has the originals' samples."""


def place(run: Run, step: Step, inputs: Places) -> Stage:
    return run.stage(ROBUSTNESS, {"robustness": step.settings}, inputs)


def make(run: Run, step: Step, inputs: Outputs) -> Manifest:
    stage = place(run, step, inputs)
    if found := run.reuse(stage):
        return found
    started, of, to = time.monotonic(), inputs["of"], inputs.get(TO, inputs["of"])
    out = storage.join(storage.resolve(stage.uri), ROBUSTNESS, "part-00000.parquet")
    counts, told = remotely(hold_against, of.files("verified"), to.files("verified"), step.settings.seed, out)
    if not told:
        raise DataError(
            f"{step.name}: none of {counts['in']} samples of {step.inputs['of']} answers a variant whose original has samples: "
            "sample the originals too (`originals: true` of the step that makes the variants), or name their samples in `to`"
        )
    dropped = {NO_ORIGINAL: counts[NO_ORIGINAL]} if counts[NO_ORIGINAL] else {}
    facts = {"name": step.name, "of": step.inputs["of"], **told}
    return run.publish(stage, started, counts={"in": counts["in"], "out": counts["out"]}, dropped=dropped, facts=facts)


KIND = Kind(
    name="robustness",
    takes={"of": ("verified",), TO: ("verified",)},
    gives=ROBUSTNESS,
    stage=ROBUSTNESS,
    tables=(ROBUSTNESS,),
    place=place,
    make=make,
)
