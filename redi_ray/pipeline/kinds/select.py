"""Some verified traces: those of problems of a wanted pass rate, or that took many rounds of sampling, or of any; or single ones,
by a column or by chance."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from redi_ray.config.curation import Difficulty
from redi_ray.config.selection import Balance, KeptSamples, RandomProblems, Rounds
from redi_ray.config.steps import BY_COLUMN
from redi_ray.data.curate.problems import select
from redi_ray.data.sources.readers import DataError
from redi_ray.pipeline.kinds.groups import column_shards
from redi_ray.pipeline.kinds.kind import Kind, Outputs, Places
from redi_ray.stages.run import Run
from redi_ray.store.manifests import Manifest, Stage

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step

FIELDS: dict[type, str] = {
    Difficulty: "difficulty",
    Rounds: "rounds",
    RandomProblems: "random",
    KeptSamples: "keep",
    Balance: "balance",
}
"""What a selection is called in the config."""


def place(run: Run, step: Step, inputs: Places) -> Stage:
    return run.stage("verified", {FIELDS[type(step.settings)]: step.settings}, inputs)


def make(run: Run, step: Step, inputs: Outputs) -> Manifest:
    import ray

    stage = place(run, step, inputs)
    if found := run.reuse(stage):
        return found
    started, of = time.monotonic(), inputs["of"]
    counted, like = inputs.get("by", of).files("verified"), inputs["like"].files("verified") if "like" in inputs else []
    columns = column_shards(of, inputs[BY_COLUMN]) if BY_COLUMN in inputs else ()
    work = ray.remote(num_cpus=1, max_retries=2)(select)
    try:
        kept = ray.get(work.remote(of.files("verified"), counted, like, columns, of.uri, stage.uri, step.settings))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    if not kept.rows:
        field = FIELDS[type(step.settings)]
        raise DataError(f"{step.name}: no trace is wanted ({kept.left_out}); widen its `{field}`")
    counts = {"in": kept.rows + sum(kept.left_out.values()), "out": kept.rows}
    facts = {"verdicts": kept.verdicts, "votes": {}, "problems": kept.problems}
    return run.publish(stage, started, counts=counts, dropped=kept.left_out, facts=facts)


KIND = Kind(
    name="select",
    takes={"of": ("verified",), "by": ("verified",), "like": ("verified",), BY_COLUMN: ("column",)},
    gives="verified",
    stage="verified",
    tables=("verified",),
    place=place,
    make=make,
)
