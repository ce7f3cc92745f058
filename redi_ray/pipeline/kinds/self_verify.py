"""Texts in which a model verifies its attempts, put together of the samples of groups."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from redi_ray.data.self_verify.make import ATTEMPTS, SelfVerifying, self_verify
from redi_ray.data.sources.readers import DataError
from redi_ray.pipeline.kinds.kind import Kind, Outputs, Places
from redi_ray.stages.run import Run
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest, Stage

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step

GROUPS = "groups"


def place(run: Run, step: Step, inputs: Places) -> Stage:
    config = run.config
    deciding = {"self_verify": step.settings, "prompt": config.model.prompt, "answers": config.verify.answers}
    return run.stage(GROUPS, deciding, inputs)


def make(run: Run, step: Step, inputs: Outputs) -> Manifest:
    stage = place(run, step, inputs)
    if found := run.reuse(stage):
        return found
    started, of = time.monotonic(), inputs["of"]
    root = of.table(GROUPS)
    how = SelfVerifying(
        groups=storage.resolve(root),
        out_uri=storage.resolve(stage.uri),
        settings=step.settings,
        prompt=run.config.model.prompt,
        answers=run.config.verify.answers,
        checks=tuple(map(storage.resolve, inputs["checks"].files("verified"))) if "checks" in inputs else None,
    )
    counts = self_verify([shard.removeprefix(root).lstrip("/") for shard in of.files(GROUPS)], how)
    lengths = {name.removeprefix(ATTEMPTS): counts.pop(name) for name in sorted(counts) if name.startswith(ATTEMPTS)}
    groups, made = counts.pop("in", 0), counts.pop("out", 0)
    if not made:
        raise DataError(
            f"{step.name}: none of {groups} groups gives a text: {dict(counts)}. Look at `chains` and its groups"
        )
    sums = {"in": groups, "out": made, "groups": made}
    return run.publish(stage, started, counts=sums, dropped=dict(counts), facts={"attempts": lengths})


KIND = Kind(
    name="self_verify",
    takes={"of": ("groups",), "checks": ("verified",)},
    gives="groups",
    stage=GROUPS,
    tables=(GROUPS,),
    place=place,
    make=make,
)
