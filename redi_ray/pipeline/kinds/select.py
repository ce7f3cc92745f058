"""Some verified traces: those of problems of a wanted pass rate, or that took many rounds of sampling, or that differ, or of
any; or single ones, by a column or by chance."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from redi_ray.cluster.capacity import Demand, demand
from redi_ray.config.curation import Difficulty
from redi_ray.config.embedders import ModelEmbedder
from redi_ray.config.selection import Balance, DiverseProblems, KeptSamples, RandomProblems, Rounds
from redi_ray.config.steps import BY_COLUMN
from redi_ray.data.curate.curate import embedding_workers
from redi_ray.data.curate.problems import number_of, select
from redi_ray.data.curate.spreading import Measured, Spreading, Worker, plan, run_passes
from redi_ray.data.sources.readers import DataError
from redi_ray.modeling.tokenizer import content_of_model
from redi_ray.pipeline.kinds.groups import column_shards
from redi_ray.pipeline.kinds.kind import Kind, Outputs, Places
from redi_ray.stages.origins import by_source
from redi_ray.stages.remote import remotely
from redi_ray.stages.run import Run
from redi_ray.store.manifests import Manifest, Stage

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step

FIELDS: dict[type, str] = {
    Difficulty: "difficulty",
    Rounds: "rounds",
    RandomProblems: "random",
    DiverseProblems: "diverse",
    KeptSamples: "keep",
    Balance: "balance",
}
"""What a selection is called in the config."""


def place(run: Run, step: Step, inputs: Places) -> Stage:
    settings = step.settings
    deciding: dict[str, Any] = {FIELDS[type(settings)]: settings}
    if isinstance(settings, DiverseProblems) and isinstance(settings.embedder, ModelEmbedder):
        deciding["embedder"] = content_of_model(settings.embedder.path)
    places = {role: of for role, of in inputs.items() if role != "problems"}
    return run.stage("verified", deciding, places)


def make(run: Run, step: Step, inputs: Outputs) -> Manifest:
    stage = place(run, step, inputs)
    if found := run.reuse(stage):
        return found
    started, of, wanted = time.monotonic(), inputs["of"], step.settings
    counted, like = inputs.get("by", of).files("verified"), inputs["like"].files("verified") if "like" in inputs else []
    columns = column_shards(of, inputs[BY_COLUMN]) if BY_COLUMN in inputs else ()
    told = dict[str, Any]()
    if isinstance(wanted, DiverseProblems):
        told, wanted = spread(run, stage, wanted, counted, like)
    kept = remotely(select, of.files("verified"), counted, like, columns, of.uri, stage.uri, wanted)
    if not kept.rows:
        field = FIELDS[type(step.settings)]
        raise DataError(f"{step.name}: no trace is wanted ({kept.left_out}); widen its `{field}`")
    counts = {"in": kept.rows + sum(kept.left_out.values()), "out": kept.rows}
    facts = {"verdicts": kept.verdicts, "votes": {}, "problems": kept.problems, **told}
    facts |= by_source(run, stage, "verified", inputs.get("problems"))
    return run.publish(stage, started, counts=counts, dropped=kept.left_out, facts=facts)


def spread(
    run: Run, stage: Stage, wanted: DiverseProblems, shards: list[str], like: list[str]
) -> tuple[dict[str, Measured], Spreading]:
    """Find problems that stand for all, or go on with that -> what the manifest says of it, and the work that has found them."""
    resources, number = run.config.resources, remotely(number_of, wanted, like)
    work = plan(shards, stage.uri, wanted, number, run.config.model.overrides.trust_remote_code)
    workers = embedding_workers(
        work, work.embedder, resources.curate_workers, resources.cpu_label_selector, kind=Worker
    )
    with workers as run_tasks:
        return {"diversity": run_passes(work, run_tasks)}, work


def room(run: Run, step: Step) -> list[Demand]:
    resources, settings = run.config.resources, step.settings
    if not isinstance(settings, DiverseProblems):
        return []
    cpus = demand(step.name, [{"CPU": 1.0}] * resources.curate_workers, resources.cpu_label_selector)
    if isinstance(settings.embedder, ModelEmbedder) and settings.embedder.device == "gpu":
        return [cpus, demand(step.name, [{"GPU": 1.0}] * settings.embedder.workers, {})]
    return [cpus]


KIND = Kind(
    name="select",
    takes={
        "of": ("verified",),
        "by": ("verified",),
        "like": ("verified",),
        BY_COLUMN: ("column",),
        "problems": ("problems",),
    },
    gives="verified",
    stage="verified",
    tables=("verified",),
    place=place,
    make=make,
    room=room,
)
