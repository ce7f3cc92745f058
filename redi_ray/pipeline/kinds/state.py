"""Traces that no model writes: each problem's reference answer in a fixed form."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from redi_ray.data.ask.stated import STATED, Stating, state
from redi_ray.data.sources.readers import DataError
from redi_ray.pipeline.kinds.kind import Kind, Outputs, Places
from redi_ray.stages.run import Run
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest, Stage

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step


def place(run: Run, step: Step, inputs: Places) -> Stage:
    return run.stage("traces", {"state": step.settings}, inputs)


def make(run: Run, step: Step, inputs: Outputs) -> Manifest:
    stage = place(run, step, inputs)
    if found := run.reuse(stage):
        return found
    started, problems = time.monotonic(), inputs["problems"]
    root = problems.table("problems")
    how = Stating(storage.resolve(root), storage.resolve(stage.uri), step.settings)
    counts = state([shard.removeprefix(root).lstrip("/") for shard in problems.files("problems")], how)
    dropped = {reason: number for reason, number in counts.items() if reason not in ("in", "out") and number}
    if not counts["out"]:
        raise DataError(f"{step.name}: none of {counts['in']} problems has a reference answer to be stated")
    sums = {"in": counts["in"], "out": counts["out"]}
    return run.publish(stage, started, counts=sums, dropped=dropped, facts={"model": STATED})


KIND = Kind(
    name="state",
    takes={"problems": ("problems",)},
    gives="traces",
    stage="traces",
    tables=("traces",),
    place=place,
    make=make,
)
