"""A column: a model's log-prob of each token of samples, by the pass that trains, or as the engine that sampled stored them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from redi_ray.cluster.capacity import Demand
from redi_ray.data.sources.readers import DataError
from redi_ray.pipeline.kinds.contrast import place as place_of_scores
from redi_ray.pipeline.kinds.contrast import room as room_of_models
from redi_ray.pipeline.kinds.contrast import scored
from redi_ray.pipeline.kinds.kind import Kind, Outputs, Places
from redi_ray.pipeline.kinds.score import COLUMN, samples_of
from redi_ray.stages.run import Run
from redi_ray.stages.stored_logps import StoredLogps, column_of_stored
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest, Stage

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step

STORED = "stored"
"""The input that is the traces as they were sampled, in place of a model."""


def place(run: Run, step: Step, inputs: Places) -> Stage:
    if STORED not in inputs:
        return place_of_scores(run, step, inputs)
    return run.stage(COLUMN, {STORED: step.settings, "prompt": run.config.model.prompt}, inputs)


def make(run: Run, step: Step, inputs: Outputs) -> Manifest:
    stage = place(run, step, inputs)
    if found := run.reuse(stage):
        return found
    if STORED not in inputs:
        return scored(run, step, inputs, stage, ("model",))
    return stored(run, step, inputs, stage)


def stored(run: Run, step: Step, inputs: Outputs, stage: Stage) -> Manifest:
    """The engine's own. Raises DataError where no sample's text has the tokens that were drawn."""
    started, of, traces = time.monotonic(), inputs["of"], inputs[STORED]
    table = samples_of(of)
    root = of.table(table)
    how = StoredLogps(
        samples=storage.resolve(root),
        traces=storage.resolve(traces.table("traces")),
        out_uri=storage.resolve(stage.uri),
        sampler=traces.facts["model"],
        tokenizer=inputs["base"].facts["export"],
        settings=step.settings,
        prompt=run.config.model.prompt,
        overrides=run.config.model.overrides,
    )
    counts = column_of_stored([shard.removeprefix(root).lstrip("/") for shard in of.files(table)], how)
    told = {name: counts.pop(name) for name in ("in", "scored", "tokens") if name in counts}
    if not told.get("scored"):
        raise DataError(f"{step.name}: none of {told['in']} samples has log-probs of its tokens: {dict(counts)}")
    facts = {"name": step.name, "grain": "token", "without": told["in"] - told["scored"], "left_out": dict(counts)}
    facts |= {"scored": told["scored"], "tokens": told["tokens"], STORED: True}
    return run.publish(stage, started, counts={"in": told["in"], "out": told["in"]}, facts=facts)


def room(run: Run, step: Step) -> list[Demand]:
    return [] if STORED in step.inputs else room_of_models(run, step)


KIND = Kind(
    name="logps",
    takes={"of": ("traces", "verified"), "model": ("model",), "base": ("model",), STORED: ("traces",)},
    gives="column",
    stage=COLUMN,
    tables=(COLUMN,),
    place=place,
    make=make,
    room=room,
)
