"""Where samples go wrong: the beginnings from which a step `rectify` samples on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from redi_ray.data.rectify.starts import Starting, make_starts
from redi_ray.data.sources.readers import DataError
from redi_ray.pipeline.kinds.kind import Kind, Outputs, Places
from redi_ray.stages.run import Run
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest, Stage

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step


def place(run: Run, step: Step, inputs: Places) -> Stage:
    deciding = {name: getattr(step.settings, name) for name in ("verdicts", "labels")}
    return run.stage("starts", {**deciding, "prompt": run.config.model.prompt}, inputs)


def make(run: Run, step: Step, inputs: Outputs) -> Manifest:
    stage = place(run, step, inputs)
    if found := run.reuse(stage):
        return found
    started, of = time.monotonic(), inputs["of"]
    root = of.table("verified")
    how = Starting(
        storage.resolve(root),
        storage.resolve(inputs["at"].table("column")),
        storage.resolve(stage.uri),
        step.settings,
        inputs["base"].facts["export"],
        run.config.model.prompt,
        run.config.model.overrides.trust_remote_code,
    )
    counts = make_starts([shard.removeprefix(root).lstrip("/") for shard in of.files("verified")], how)
    dropped = {reason: number for reason, number in sorted(counts.items()) if reason not in ("in", "out")}
    if not counts["out"]:
        raise DataError(
            f"{step.name}: of {counts['in']} samples none has a wrong step to begin from: {dropped}. Look at the labels of the "
            f"column ({step.inputs['at']}) and at `verdicts` and `labels`"
        )
    return run.publish(stage, started, counts={"in": counts["in"], "out": counts["out"]}, dropped=dropped)


KIND = Kind(
    name="starts",
    takes={"of": ("verified",), "at": ("column",), "base": ("model",)},
    gives="starts",
    stage="starts",
    place=place,
    make=make,
)
