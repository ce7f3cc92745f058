"""Variants of problems that a model writes in other words, and a judge finds to be the same."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from redi_ray.cluster.capacity import Demand
from redi_ray.data.perturb.reworded import Rewording, reword
from redi_ray.data.sources.readers import DataError
from redi_ray.modeling.tokenizer import content_of_model
from redi_ray.pipeline.kinds.kind import Kind, Outputs, Places
from redi_ray.pipeline.kinds.perturb import publish_variants
from redi_ray.pipeline.room import of_engines
from redi_ray.stages.bars import WorkBar, label_of
from redi_ray.stages.run import Run
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest, Stage

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step


def place(run: Run, step: Step, inputs: Places) -> Stage:
    settings, shared = step.settings, run.config.resources.engine
    deciding: dict[str, Any] = {"paraphrase": settings, "answers": run.config.verify.answers}
    for field, model in (("by", settings.by), ("judge", settings.judged_by)):
        if model.model is not None:
            deciding[field] = {"engine": model.engine or shared, "content": content_of_model(model.model)}
    return run.stage("problems", deciding, inputs)


def make(run: Run, step: Step, inputs: Outputs) -> Manifest:
    stage = place(run, step, inputs)
    if found := run.reuse(stage):
        return found
    started, settings, of = time.monotonic(), step.settings, inputs["problems"]
    root = storage.resolve(of.table(settings.part))
    names = [uri.removeprefix(root).lstrip("/") for uri in of.files(settings.part)]
    if not names:
        raise DataError(f"{step.name}: {step.inputs['problems']} holds no problems in its part `{settings.part}`")
    how = Rewording(root, storage.resolve(stage.uri), settings, run.config.verify.answers)
    with WorkBar(label_of("paraphrase", run.step), 0, "answers") as bar:
        told = reword(names, how, step.name, run.config.resources.engine, bar)
    models = {"by": settings.by, "judge": settings.judged_by}
    facts = {
        field: {
            "model": model.endpoint.model if model.endpoint is not None else model.model,
            "tokens": told.get(f"{field}/num_tokens", 0),
            "prompt_tokens": told.get(f"{field}/prompt_tokens", 0),
        }
        for field, model in models.items()
    }
    for field, model in models.items():
        if model.endpoint is not None and model.endpoint.has_prices:
            facts[field]["cost"] = model.endpoint.cost(facts[field]["prompt_tokens"], facts[field]["tokens"])
    return publish_variants(run, step, stage, started, inputs, {}, {"asked": facts})


def room(run: Run, step: Step) -> list[Demand]:
    """Engines of the model and, when it has written, of the judge."""
    shared, models = run.config.resources.engine, (step.settings.by, step.settings.judged_by)
    found = [of_engines(step.name, model.engine or shared) for model in models if model.endpoint is None]
    return found[:1]


KIND = Kind(
    name="paraphrase",
    takes={"problems": ("problems",)},
    gives="problems",
    stage="problems",
    tables=("variants", "problems"),
    place=place,
    make=make,
    room=room,
)
