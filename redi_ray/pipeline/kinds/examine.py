"""Problems that ask whether the samples of groups are right."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from redi_ray.data.self_verify.examine import Examining, examine
from redi_ray.data.sources.readers import DataError
from redi_ray.pipeline.kinds.kind import Kind, Outputs, Places
from redi_ray.stages.run import Run
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest, Stage

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step


def place(run: Run, step: Step, inputs: Places) -> Stage:
    return run.stage("problems", {"examine": step.settings}, inputs)


def make(run: Run, step: Step, inputs: Outputs) -> Manifest:
    stage = place(run, step, inputs)
    if found := run.reuse(stage):
        return found
    started, of = time.monotonic(), inputs["of"]
    root = of.table("groups")
    how = Examining(
        storage.resolve(root),
        storage.resolve(stage.uri),
        step.settings,
        inputs["base"].facts["export"],
        run.config.model.overrides.trust_remote_code,
    )
    counts = examine([shard.removeprefix(root).lstrip("/") for shard in of.files("groups")], how)
    dropped = {"several_turns": counts["several_turns"]} if counts["several_turns"] else {}
    if not counts["out"]:
        raise DataError(f"{step.name}: none of {counts['in']} samples has one turn, which a question could be about")
    return run.publish(stage, started, counts={"in": counts["in"], "out": counts["out"]}, dropped=dropped)


KIND = Kind(
    name="examine",
    takes={"of": ("groups",), "base": ("model",)},
    gives="problems",
    stage="problems",
    tables=("problems",),
    place=place,
    make=make,
)
