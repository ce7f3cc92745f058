"""Problems made of samples: one of each, to be answered about it or with its help."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from redi_ray.data.ask.posed import Posing, pose
from redi_ray.data.sources.readers import DataError
from redi_ray.pipeline.kinds.kind import Kind, Outputs, Places
from redi_ray.stages.run import Run
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest, Stage

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step

GUIDES = "guides"
"""The input that is traces which say a guide of each sample."""


def place(run: Run, step: Step, inputs: Places) -> Stage:
    return run.stage("problems", {"pose": step.settings.template}, inputs)


def make(run: Run, step: Step, inputs: Outputs) -> Manifest:
    stage = place(run, step, inputs)
    if found := run.reuse(stage):
        return found
    started, (root, names) = time.monotonic(), samples_of(inputs["of"])
    how = Posing(
        storage.resolve(root),
        storage.resolve(stage.uri),
        step.settings,
        inputs["base"].facts["export"],
        _guides(inputs),
        run.config.model.overrides.trust_remote_code,
    )
    return publish_problems(run, step, stage, started, pose(names, how))


def _guides(inputs: Outputs) -> tuple[str, ...]:
    """Shards of what says a guide of each sample, if anything does."""
    if GUIDES not in inputs:
        return ()
    root, names = samples_of(inputs[GUIDES])
    return tuple(storage.join(root, name) for name in names)


def samples_of(of: Manifest) -> tuple[str, list[str]]:
    """The folder of an output's samples, with verdicts or without, and its shards' names in it."""
    table = of.stage.rsplit("/", 1)[-1]
    root = of.table(table)
    return root, [shard.removeprefix(root).lstrip("/") for shard in of.files(table)]


def publish_problems(run: Run, step: Step, stage: Stage, started: float, counts: Counter[str]) -> Manifest:
    """The manifest of problems that were made of samples. Raises DataError where there are none."""
    dropped = {reason: number for reason, number in sorted(counts.items()) if reason not in ("in", "out") and number}
    if not counts["out"]:
        raise DataError(f"{step.name}: none of {counts['in']} samples gives a problem: {dropped}")
    return run.publish(stage, started, counts={"in": counts["in"], "out": counts["out"]}, dropped=dropped)


KIND = Kind(
    name="pose",
    takes={"of": ("traces", "verified"), GUIDES: ("traces", "verified"), "base": ("model",)},
    gives="problems",
    stage="problems",
    tables=("problems",),
    place=place,
    make=make,
)
