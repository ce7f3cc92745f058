"""Beginnings of wrong samples, one behind each token, from which a step `critical` samples on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from redi_ray.data.locate.token_starts import TokenStarting, make_token_starts
from redi_ray.data.sources.readers import DataError
from redi_ray.pipeline.kinds.kind import Kind, Outputs, Places
from redi_ray.stages.run import Run
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest, Stage

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step


def place(run: Run, step: Step, inputs: Places) -> Stage:
    deciding = {name: getattr(step.settings, name) for name in ("max_samples", "max_tokens_each", "seed")}
    return run.stage("starts", {**deciding, "prompt": run.config.model.prompt}, inputs)


def make(run: Run, step: Step, inputs: Outputs) -> Manifest:
    stage = place(run, step, inputs)
    if found := run.reuse(stage):
        return found
    started, of = time.monotonic(), inputs["of"]
    root = of.table("verified")
    how = TokenStarting(
        storage.resolve(root),
        storage.resolve(stage.uri),
        step.settings,
        inputs["base"].facts["export"],
        run.config.model.prompt,
        run.config.model.overrides.trust_remote_code,
    )
    written, counts = make_token_starts([shard.removeprefix(root).lstrip("/") for shard in of.files("verified")], how)
    if not written:
        raise DataError(f"{step.name}: a model can go on from none of {counts['samples']} samples: {dict(counts)}")
    facts = {"samples": dict(sorted(counts.items()))}
    return run.publish(stage, started, counts={"in": written, "out": written}, facts=facts)


KIND = Kind(
    name="token_starts",
    takes={"of": ("verified",), "base": ("model",)},
    gives="starts",
    stage="starts",
    place=place,
    make=make,
)
