"""Problems made of samples: the dialogue goes on from the other side."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from redi_ray.data.ask.dialogues import HandingOver, hand_over_shard
from redi_ray.data.ask.made import problems_of_shards
from redi_ray.pipeline.kinds.kind import Kind, Outputs, Places
from redi_ray.pipeline.kinds.pose import publish_problems, samples_of
from redi_ray.stages.run import Run
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest, Stage

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step


def place(run: Run, step: Step, inputs: Places) -> Stage:
    return run.stage("problems", {"hand_over": step.settings}, inputs)


def make(run: Run, step: Step, inputs: Outputs) -> Manifest:
    stage = place(run, step, inputs)
    if found := run.reuse(stage):
        return found
    started, (root, names) = time.monotonic(), samples_of(inputs["of"])
    how = HandingOver(
        storage.resolve(root),
        storage.resolve(stage.uri),
        step.settings,
        inputs["base"].facts["export"],
        run.config.model.overrides.trust_remote_code,
    )
    return publish_problems(run, step, stage, started, problems_of_shards(names, hand_over_shard, how))


KIND = Kind(
    name="hand_over",
    takes={"of": ("traces", "verified"), "base": ("model",)},
    gives="problems",
    stage="problems",
    tables=("problems",),
    place=place,
    make=make,
)
