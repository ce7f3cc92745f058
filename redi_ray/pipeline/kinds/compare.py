"""How well a column finds the first wrong steps that another one knows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from redi_ray.data.sources.readers import DataError
from redi_ray.eval.compare_steps import NOT_KNOWN, OTHER_PART, OTHER_STEPS, compare
from redi_ray.pipeline.kinds.groups import column_shards
from redi_ray.pipeline.kinds.kind import Kind, Outputs, Places
from redi_ray.stages.run import Run
from redi_ray.store.manifests import Manifest, Stage

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step

COMPARISON = "comparison"


def place(run: Run, step: Step, inputs: Places) -> Stage:
    return run.stage(COMPARISON, {"compare": step.settings}, inputs)


def make(run: Run, step: Step, inputs: Outputs) -> Manifest:
    import ray

    stage = place(run, step, inputs)
    if found := run.reuse(stage):
        return found
    started, of = time.monotonic(), inputs["of"]
    columns = (column_shards(of, inputs[role]) for role in ("column", "to"))
    work = ray.remote(num_cpus=1, max_retries=2)(compare)
    try:
        counts, scores = ray.get(work.remote(list(zip(of.files("verified"), *columns, strict=True)), step.settings))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    dropped = {reason: counts[reason] for reason in (OTHER_PART, NOT_KNOWN, OTHER_STEPS) if counts[reason]}
    if not counts["compared"]:
        raise DataError(f"{step.name}: none of {counts['in']} samples can be compared: {dropped}")
    names = {role: step.inputs[role] for role in ("of", "column", "to")}
    facts = {"name": step.name, **names, "without_prediction": counts["without_prediction"], **scores}
    sums = {"in": counts["in"], "out": counts["compared"]}
    return run.publish(stage, started, counts=sums, dropped=dropped, facts=facts)


KIND = Kind(
    name="compare",
    takes={"of": ("verified",), "column": ("column",), "to": ("column",)},
    gives=COMPARISON,
    stage=COMPARISON,
    place=place,
    make=make,
)
