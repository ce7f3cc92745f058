"""Problems made of imported dialogues: what each begins with."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from redi_ray.data.ask.dialogues import CHATS, OpeningDialogues, openings_of_shard
from redi_ray.data.ask.made import problems_of_shards
from redi_ray.data.sources.readers import DataError
from redi_ray.pipeline.kinds.kind import Kind, Outputs, Places
from redi_ray.pipeline.kinds.pose import publish_problems
from redi_ray.stages.run import Run
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest, Stage

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step


def place(run: Run, step: Step, inputs: Places) -> Stage:
    return run.stage("problems", {"openings": run.config.model.prompt}, inputs)


def make(run: Run, step: Step, inputs: Outputs) -> Manifest:
    stage = place(run, step, inputs)
    if found := run.reuse(stage):
        return found
    started, of = time.monotonic(), inputs["of"]
    table = next((name for name in CHATS if of.files(name)), None)
    if table is None:
        raise DataError(f"{step.name}: {step.inputs['of']} holds no dialogues, but pairs; name an import of answers")
    root, shards = of.table(table), of.files(table)
    how = OpeningDialogues(
        storage.resolve(root), table, storage.resolve(stage.uri), run.config.model.prompt, step.inputs["of"]
    )
    names = [shard.removeprefix(root).lstrip("/") for shard in shards]
    return publish_problems(run, step, stage, started, problems_of_shards(names, openings_of_shard, how))


KIND = Kind(
    name="openings",
    takes={"of": ("groups",)},
    gives="problems",
    stage="problems",
    tables=("problems",),
    place=place,
    make=make,
)
