"""How often samples look back, and whether the right ones do so more often."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from redi_ray.data.reflection import Reflecting, reflect
from redi_ray.eval.reflection import reflection
from redi_ray.pipeline.kinds.kind import Kind, Outputs, Places
from redi_ray.stages.remote import remotely
from redi_ray.stages.run import Run
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest, Stage

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step

REFLECTION = "reflection"


def place(run: Run, step: Step, inputs: Places) -> Stage:
    return run.stage(REFLECTION, {"reflect": step.settings}, inputs)


def make(run: Run, step: Step, inputs: Outputs) -> Manifest:
    stage = place(run, step, inputs)
    if found := run.reuse(stage):
        return found
    started, of = time.monotonic(), inputs["of"]
    root, table = of.table("verified"), storage.join(stage.uri, REFLECTION)
    names = [shard.removeprefix(root).lstrip("/") for shard in of.files("verified")]
    counts = reflect(names, Reflecting(storage.resolve(root), storage.resolve(table), step.settings))
    told = remotely(reflection, storage.list_files(table, ".parquet"), list(step.settings.behaviours))
    facts = {"name": step.name, "of": step.inputs["of"], **told}
    return run.publish(stage, started, counts={"in": counts["in"], "out": counts["in"]}, facts=facts)


KIND = Kind(
    name="reflect",
    takes={"of": ("verified", "scores")},
    gives=REFLECTION,
    stage=REFLECTION,
    tables=(REFLECTION,),
    place=place,
    make=make,
)
