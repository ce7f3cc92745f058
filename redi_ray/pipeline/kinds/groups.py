"""Groups of a problem's samples, with rewards."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from redi_ray.cluster.capacity import Demand, demand
from redi_ray.config.group_steps import GroupSettings, TokenWeights
from redi_ray.config.scorer_base import COLUMN
from redi_ray.data.groups.make import make_groups, plan
from redi_ray.data.groups.scan import Grouping
from redi_ray.data.sources.readers import DataError
from redi_ray.data.weights import Reading, Weighing
from redi_ray.modeling.tokenizer import load_tokenizer, tokenizer_fingerprints
from redi_ray.pipeline.kinds.kind import MANY, Kind, Outputs, Places
from redi_ray.stages.run import Run
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest, Stage

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step

BY = COLUMN
"""Begins an input that is a column, before what the settings call it."""
WEIGHTS = "weights"
"""The input that is a column of token weights."""
TOKENS = "tokens "
"""Begins an input that is a column which an objective reads, before the name that it reads it by."""


def place(run: Run, step: Step, inputs: Places) -> Stage:
    curate = run.config.curate
    limits = [curate.max_prompt_tokens, curate.max_response_tokens]
    return run.stage("groups", {"groups": step.settings, "limits": limits, "prompt": run.config.model.prompt}, inputs)


def make(run: Run, step: Step, inputs: Outputs) -> Manifest:
    stage = place(run, step, inputs)
    if found := run.reuse(stage):
        return found
    started, settings, of = time.monotonic(), step.settings, inputs["of"]
    shards = of.files("verified")

    def beside(name: str) -> tuple[str, ...]:
        return column_shards(of, inputs[BY + name])

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
        weighing=weighing_of(run, settings.weights, of, inputs),
        readings=readings_of(run, settings, of, inputs),
    )
    resources = run.config.resources
    made = make_groups(grouping, resources.curate_workers, resources.cpu_label_selector)
    if not made.groups:
        raise DataError(
            f"{step.name}: no group is left of {made.problems} problems: {made.problems_dropped}; samples left out: "
            f"{made.dropped}. Look at its rewards, rates and `least`"
        )
    counts = {"in": made.traces, "out": made.members, "groups": made.groups + made.repeated}
    names = ("problems", "problems_dropped", "sides", "cut_off", "pass_rates")
    facts = {name: value for name, value in asdict(made).items() if name in names}
    facts |= {"repeated": made.repeated} if made.repeated else {}
    return run.publish(stage, started, counts=counts, dropped=made.dropped, facts=facts)


def column_shards(samples: Manifest, column: Manifest) -> tuple[str, ...]:
    """A column's shards, one for each of the samples'."""
    table, root = column.table("column"), samples.table("verified")
    return tuple(storage.join(table, shard.removeprefix(root).lstrip("/")) for shard in samples.files("verified"))


def weighing_of(run: Run, settings: TokenWeights | None, samples: Manifest, inputs: Outputs) -> Weighing | None:
    """The column that weighs the samples' tokens, for the base model's tokenizer."""
    if settings is None:
        return None
    return Weighing(settings, column_shards(samples, inputs[WEIGHTS]), base_tokenizer(run, inputs))


def readings_of(run: Run, settings: GroupSettings, samples: Manifest, inputs: Outputs) -> tuple[Reading, ...]:
    """The columns that objectives read, in the order of their names."""
    return tuple(
        Reading(name, column, column_shards(samples, inputs[TOKENS + name]), base_tokenizer(run, inputs))
        for name, column in sorted(settings.token_columns.items())
    )


def base_tokenizer(run: Run, inputs: Outputs) -> str:
    """Fingerprint of the base model's tokenizer."""
    tokenizer = load_tokenizer(inputs["base"].facts["export"], run.config.model.overrides.trust_remote_code)
    return tokenizer_fingerprints(tokenizer)["tokenizer"]


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
