"""Groups of a problem's samples, with rewards."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from redi_ray.cluster.capacity import Demand, demand
from redi_ray.data.groups.make import make_groups, plan
from redi_ray.data.groups.scan import Grouping
from redi_ray.data.sources.readers import DataError
from redi_ray.pipeline.kinds.kind import MANY, Kind, Outputs, Places
from redi_ray.stages.run import Run
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest, Stage

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step

BY = "column "
"""Begins an input that is a column, before what the settings call it."""


def place(run: Run, step: Step, inputs: Places) -> Stage:
    curate = run.config.curate
    limits = [curate.max_prompt_tokens, curate.max_response_tokens]
    return run.stage("groups", {"groups": step.settings, "limits": limits, "prompt": run.config.model.prompt}, inputs)


def make(run: Run, step: Step, inputs: Outputs) -> Manifest:
    stage = place(run, step, inputs)
    if found := run.reuse(stage):
        return found
    started, settings, of = time.monotonic(), step.settings, inputs["of"]
    shards, table = of.files("verified"), of.table("verified")

    def beside(name: str) -> tuple[str, ...]:
        """The column's shards, one for each of the samples'."""
        column = inputs[BY + name].table("column")
        return tuple(storage.join(column, shard.removeprefix(table).lstrip("/")) for shard in shards)

    grouping = Grouping(
        **plan(shards),
        out_uri=storage.resolve(stage.uri),
        tokenizer=inputs["base"].facts["export"],
        trust_remote_code=run.config.model.overrides.trust_remote_code,
        prompt=run.config.model.prompt,
        settings=settings,
        max_prompt_tokens=run.config.curate.max_prompt_tokens,
        max_response_tokens=run.config.curate.max_response_tokens,
        scores=tuple((name, beside(name)) for name in settings.scores),
        spans=None if settings.spans is None else beside(settings.spans),
    )
    resources = run.config.resources
    made = make_groups(grouping, resources.curate_workers, resources.cpu_label_selector)
    if not made.groups:
        raise DataError(
            f"{step.name}: no group is left of {made.problems} problems: {made.problems_dropped}; samples left out: "
            f"{made.dropped}. Look at its rewards, rates and `least`"
        )
    counts = {"in": made.traces, "out": made.members, "groups": made.groups}
    names = ("problems", "problems_dropped", "sides", "cut_off", "pass_rates")
    facts = {name: value for name, value in asdict(made).items() if name in names}
    return run.publish(stage, started, counts=counts, dropped=made.dropped, facts=facts)


def room(run: Run, step: Step) -> list[Demand]:
    resources = run.config.resources
    return [demand(step.name, [{"CPU": 1.0}] * resources.curate_workers, resources.cpu_label_selector)]


KIND = Kind(
    name="groups",
    takes={"of": ("verified",), "base": ("model",), MANY: ("column",)},
    gives="groups",
    stage="groups",
    tables=("groups",),
    place=place,
    make=make,
    room=room,
)
