"""A column: what two models, one of right samples and one of wrong ones, say of each token."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from redi_ray.cluster.capacity import Demand
from redi_ray.config.scorer_base import Grain
from redi_ray.data.sources.readers import DataError
from redi_ray.pipeline.kinds.kind import Kind, Outputs, Places
from redi_ray.pipeline.kinds.score import COLUMN, samples_of
from redi_ray.pipeline.room import of_trainer
from redi_ray.stages.run import Run
from redi_ray.stages.token_scoring import TokenScoring, TokenScoringShard, score_samples_tokens
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest, Stage

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step


def place(run: Run, step: Step, inputs: Places) -> Stage:
    """Also of other columns that models write of tokens."""
    model = run.config.model
    deciding = {
        step.kind: step.settings,
        "prompt": model.prompt,
        "overrides": model.overrides.scoring,
        "precision": run.config.redi.train.precision,
    }
    return run.stage(COLUMN, deciding, inputs)


def make(run: Run, step: Step, inputs: Outputs) -> Manifest:
    stage = place(run, step, inputs)
    if found := run.reuse(stage):
        return found
    return scored(run, step, inputs, stage, ("right", "wrong"))


def scored(
    run: Run,
    step: Step,
    inputs: Outputs,
    stage: Stage,
    roles: tuple[str, ...],
    actor: type[TokenScoringShard] = TokenScoringShard,
    grain: Grain = "token",
) -> Manifest:
    """The column of a step in which the models of these roles say something of each token. actor: what scores a shard. Raises
    DataError where no sample could be scored."""
    started, of, model = time.monotonic(), inputs["of"], run.config.model
    table = samples_of(of)
    root = of.table(table)
    how = TokenScoring(
        step=step.kind,
        samples=storage.resolve(root),
        out_uri=storage.resolve(stage.uri),
        models={role: inputs[role].facts["export"] for role in roles},
        tokenizer=inputs["base"].facts["export"],
        settings=step.settings,
        prompt=model.prompt,
        overrides=model.overrides.scoring,
        train=run.config.redi.train,
    )
    names = [shard.removeprefix(root).lstrip("/") for shard in of.files(table)]
    counts = score_samples_tokens(names, how, run.config.resources.trainer, actor)
    told = {name: counts.pop(name) for name in ("in", "scored", "tokens", "critical") if name in counts}
    if not told.get("scored"):
        raise DataError(f"{step.name}: none of {told['in']} samples could be scored: {dict(counts)}")
    facts = {"name": step.name, "grain": grain, "without": told["in"] - told["scored"], "left_out": dict(counts)}
    facts |= {name: told[name] for name in ("scored", "tokens", "critical") if name in told}
    return run.publish(stage, started, counts={"in": told["in"], "out": told["in"]}, facts=facts)


def room(run: Run, step: Step) -> list[Demand]:
    return [of_trainer(f"models of {step.name}", run.config.resources.trainer)]


KIND = Kind(
    name="contrast",
    takes={"of": ("verified",), "right": ("model",), "wrong": ("model",), "base": ("model",)},
    gives="column",
    stage=COLUMN,
    tables=(COLUMN,),
    place=place,
    make=make,
    room=room,
)
