"""Pairs of one step each: the first step of right continuations against the wrong step."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from redi_ray.cluster.capacity import Demand, demand
from redi_ray.data.rectify.pairs import Rectifying, make_pairs, plan
from redi_ray.data.sources.readers import DataError
from redi_ray.pipeline.kinds.kind import Kind, Outputs, Places
from redi_ray.stages.run import Run
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest, Stage

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step


def place(run: Run, step: Step, inputs: Places) -> Stage:
    deciding = {
        "max_pairs": step.settings.max_pairs,
        "form": step.settings.form,
        "seed": run.config.curate.seed,
        "prompt": run.config.model.prompt,
    }
    return run.stage("groups", deciding, inputs)


def make(run: Run, step: Step, inputs: Outputs) -> Manifest:
    stage = place(run, step, inputs)
    if found := run.reuse(stage):
        return found
    started, resources = time.monotonic(), run.config.resources
    rectifying = Rectifying(
        **plan(inputs["right"].files("verified"), inputs["of"].files("problems")),
        out_uri=storage.resolve(stage.uri),
        tokenizer="",  # no pass counts tokens
        prompt=run.config.model.prompt,
        settings=step.settings,
        seed=run.config.curate.seed,
    )
    made = make_pairs(rectifying, resources.curate_workers, resources.cpu_label_selector)
    if not made.pairs:
        raise DataError(
            f"{step.name}: no pair is left of {made.starts} beginnings with {made.continuations} continuations, {made.right} of "
            f"them right: {made.starts_dropped}, {made.dropped}. More samples_per_round, another model or temperature may help"
        )
    counts = {"in": made.right, "out": made.pairs, "groups": made.pairs, "pairs": made.pairs}
    names = ("continuations", "starts", "paired", "starts_dropped", "problems")
    facts = {name: value for name, value in asdict(made).items() if name in names}
    return run.publish(stage, started, counts=counts, dropped=made.dropped, facts=facts)


def room(run: Run, step: Step) -> list[Demand]:
    resources = run.config.resources
    return [demand(step.name, [{"CPU": 1.0}] * resources.curate_workers, resources.cpu_label_selector)]


KIND = Kind(
    name="rectify",
    takes={"of": ("starts",), "right": ("verified",)},
    gives="groups",
    stage="groups",
    tables=("groups",),
    place=place,
    make=make,
    room=room,
)
