"""A column: what a scorer says of each sample."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from redi_ray.cluster.capacity import Demand
from redi_ray.config.scorer_base import MODEL, REWARD, RIGHT
from redi_ray.config.scorers import RewardScorer
from redi_ray.config.trace_rewards import (
    PassRateScorer,
    SaidScorer,
    SimilarityScorer,
    StepRewardsScorer,
    TraceRewardScorer,
)
from redi_ray.data.score.score import ScoreCounts, column_counts, score_samples
from redi_ray.data.sources.readers import DataError
from redi_ray.eval.scores import against_verdicts
from redi_ray.pipeline.kinds.kind import MANY, Kind, Outputs, Places
from redi_ray.pipeline.room import of_trainer
from redi_ray.stages.remote import remotely
from redi_ray.stages.rewards import COLUMN, numerics_of, reward_folder
from redi_ray.stages.run import Run
from redi_ray.stages.scoring import asked_of, outside_of
from redi_ray.stages.similarity import compare_folder
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest, Stage

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step

VERIFIED = "verified"
AGAINST = "against_verdicts"
"""A fact of a column of numbers: what `redi_ray.eval.scores.against_verdicts` says."""
EMPTY: dict[type, str] = {
    StepRewardsScorer: "a step needs one in every column: look at their labels, and whether all split texts alike (`form`)",
    TraceRewardScorer: "look at the column's numbers, and with `alpha` for responses, which follow a thought that is closed",
    PassRateScorer: "its `samples` answer problems that a step `pose` has made of others: make them of these",
    SaidScorer: "its `samples` answer problems that a step `pose` has made of these, and `verify` must read numbers of them",
}
"""What to look at where a column of other steps' outputs comes out empty."""
ASKING = (RewardScorer, SimilarityScorer)
"""Scorers that ask a model."""


def place(run: Run, step: Step, inputs: Places) -> Stage:
    scorer = step.settings
    deciding: dict[str, Any] = {"scorer": scorer}
    deciding |= {"prompt": run.config.model.prompt} if scorer.reads_prompt else {}
    deciding |= {"verify": run.config.verify.first_pass()} if scorer.reads_answers else {}
    deciding |= numerics_of(run.config) if isinstance(scorer, ASKING) else {}
    return run.stage(COLUMN, {**deciding, "outside": outside_of(scorer)}, inputs)


def make(run: Run, step: Step, inputs: Outputs) -> Manifest:
    stage = place(run, step, inputs)
    if found := run.reuse(stage):
        return found
    started, of = time.monotonic(), inputs["of"]
    samples, column = of.table(samples_of(of)), storage.join(stage.uri, COLUMN)
    if isinstance(step.settings, ASKING):
        counts, told = by_model(run, step, inputs, stage)
    else:
        asked = asked_of(run, inputs, storage.join(stage.uri, "work"))
        counts, told = score_samples(samples, column, step.settings, asked)
        if type(step.settings) in EMPTY and not counts.numbers:
            raise DataError(f"{step.name}: none of {counts.samples} samples has a number; {EMPTY[type(step.settings)]}")
    facts = {"name": step.name, "scorer": step.settings.name, "grain": step.settings.grain, **summary(counts), **told}
    if step.settings.grain == "row" and samples_of(of) == VERIFIED:
        facts |= compared(of, column)
    return run.publish(stage, started, counts={"in": counts.samples, "out": counts.samples}, facts=facts)


def by_model(run: Run, step: Step, inputs: Outputs, stage: Stage) -> tuple[ScoreCounts, dict[str, Any]]:
    """The column of a scorer that asks a model; its counts, and what else is to be said of it."""
    scorer, of = step.settings, inputs["of"]
    asked = next((inputs[role].facts["export"] for role in (REWARD, MODEL) if role in inputs), None)
    ask = reward_folder if isinstance(scorer, RewardScorer) else compare_folder
    told, left_out = ask(run.config, scorer, asked, of.table(samples_of(of)), stage.uri, step.name)
    counts = remotely(column_counts, storage.list_files(storage.join(stage.uri, COLUMN), ".parquet"))
    facts: dict[str, Any] = {"model": scorer.model, "left_out": left_out}
    names = ("steps", "wrong", "unseen") if isinstance(scorer, RewardScorer) else ("steps",)
    facts |= {name: told[name] for name in names if scorer.grain == "span"}
    return counts, facts


def compared(samples: Manifest, column: str) -> dict[str, Any]:
    """The numbers of a column against the verdicts of its samples, as a fact."""
    root = samples.table(VERIFIED)
    verified = samples.files(VERIFIED)
    shards = [(shard, storage.join(column, shard.removeprefix(root).lstrip("/"))) for shard in verified]
    return {AGAINST: remotely(against_verdicts, shards)}


def samples_of(output: Manifest) -> str:
    """The table that holds an output's samples."""
    return output.stage.rsplit("/", 1)[-1]


def summary(counts: ScoreCounts) -> dict[str, Any]:
    """What the numbers are like, for the manifest."""
    mean = counts.total / counts.numbers if counts.numbers else None
    ends = {"min": counts.least, "max": counts.most} if counts.numbers else {"min": None, "max": None}
    labels = {"labels": dict(sorted(counts.labels.items()))} if counts.labels else {}
    return {"without": counts.without, "numbers": counts.numbers, "mean": mean, **ends, **labels}


def room(run: Run, step: Step) -> list[Demand]:
    """Actors with the model, where one is asked."""
    asks = isinstance(step.settings, ASKING)
    return [of_trainer(f"models of {step.name}", run.config.resources.trainer)] if asks else []


KIND = Kind(
    name="score",
    takes={
        "of": ("traces", "verified"),
        "base": ("model",),
        REWARD: ("model",),
        MODEL: ("model",),
        RIGHT: ("verified",),
        MANY: ("column",),
    },
    gives="column",
    stage=COLUMN,
    tables=(COLUMN,),
    place=place,
    make=make,
    room=room,
)
