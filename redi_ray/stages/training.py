"""Stage 1 and the arms of stage 2: the same launcher with another objective."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from redi_ray.cluster.notify import notify
from redi_ray.cluster.runtime import log
from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.objectives import Objective
from redi_ray.config.resources import TrainerSettings
from redi_ray.config.rollout_objectives import Rehearsal
from redi_ray.config.training import TrainSettings
from redi_ray.data.sources.readers import DataError
from redi_ray.objectives import OBJECTIVES
from redi_ray.stages.launch import train_with_progress
from redi_ray.stages.references import references, references_stage, start_of
from redi_ray.stages.run import Run
from redi_ray.stages.sequences import Learnt, mismatched, mismatched_stage, sequences, sequences_stage
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest, Stage
from redi_ray.train.on_ray.launch import TrainOutcome
from redi_ray.train.on_ray.orders import Development, Rehearsing

LENGTHS = (
    *("sequences", "too_long", "truncated", "dropped_groups", "dropped_members", "truncated_mismatched"),
    *("rehearsed", "rehearsed_too_long", "rehearsed_truncated", "rehearsed_dropped_groups"),
)
"""Counts of a training's sequences, and of what its limits left out or cut."""

REHEARSED = "rehearsed"
"""The input that is rehearsed."""
KEPT_ENOUGH = 0.9
"""Share of the weights that moved; below it an export's type is worth a warning."""


@dataclass(frozen=True)
class Recipe:
    """How a model is trained, before it is known from which model and on which data."""

    objective: Objective
    settings: TrainSettings
    trainer: TrainerSettings
    kind: Learnt
    """Which of the curated tables it reads: examples or pairs."""
    starts_others: bool = False
    """Whether another training begins with its weights, which are then kept in float32."""
    rehearsal: Rehearsal | None = None
    """What is rehearsed beside."""
    any_groups: bool = False
    """Whether its data may be groups of any form, which an objective that asks for no pairs then reads whole."""

    @property
    def rehearsed_settings(self) -> TrainSettings:
        """How what is rehearsed is weighed: whole answers, whatever parts are learnt from."""
        return replace(self.settings, units="sequence", outside_spans=1)

    @property
    def reads(self) -> Learnt:
        """What it makes of its data."""
        takes_any = OBJECTIVES[self.objective.name].sides == "any"
        return "groups" if self.any_groups and takes_any else self.kind


@dataclass(frozen=True)
class Training:
    """A training whose data are there: what is left is to train, or to find it done."""

    stage: Stage
    start: Manifest
    """The model it starts from."""
    data: Manifest
    mismatched: Manifest | None
    rehearsed: Manifest | None
    recipe: Recipe
    development: Development | None

    @property
    def name(self) -> str:
        """Of the model that comes out."""
        return self.stage.name.removeprefix("checkpoints/")

    @property
    def settings(self) -> TrainSettings:
        return self.recipe.settings

    @property
    def trainer(self) -> TrainerSettings:
        return self.recipe.trainer

    @property
    def objective(self) -> Objective:
        return self.recipe.objective

    @property
    def total_steps(self) -> int:
        """Optimizer steps, unless groups are dropped for their length."""
        return self.settings.total_steps(self.data.counts["groups"])


def sft_recipe(config: ExperimentConfig) -> Recipe:
    """Stage 1: fine-tuning on the positives."""
    return Recipe(config.sft.objective, config.sft.train, config.resources.trainer, "examples", starts_others=True)


def arm_recipe(config: ExperimentConfig, name: str) -> Recipe:
    """One arm of stage 2, which trains on the pairs."""
    workers = config.redi.trainer or config.resources.trainer
    return Recipe(config.redi.arms[name].objective, config.redi.settings(name), workers, "pairs")


def place(run: Run, name: str, recipe: Recipe, inputs: Mapping[str, Manifest | Stage]) -> Stage:
    """Where a training's weights lie. inputs: `start`, `groups`, `base`, `dev` where there is a probe, and `rehearsed` groups
    where something is rehearsed."""
    spec, start = OBJECTIVES[recipe.objective.name], inputs["start"]
    data = sequences_stage(run, recipe.reads, inputs["groups"], inputs["base"], recipe.settings, recipe.objective.name)
    found: dict[str, Manifest | Stage] = {"sequences": data, "start": start}
    if spec.needs_mismatched(recipe.objective):
        others = mismatched_stage(run, data)
        found["mismatched"] = references_stage(run, others, start, recipe.settings, mismatched=True)
    if spec.needs_reference:
        found["sequences"] = references_stage(run, data, start, recipe.settings)
    if recipe.rehearsal is not None:
        again = sequences_stage(run, "examples", inputs[REHEARSED], inputs["base"], recipe.rehearsed_settings)
        found[REHEARSED] = references_stage(run, again, start, recipe.settings)
    if recipe.settings.probe is not None:
        found["dev"] = inputs["dev"]
    return training_stage(run, name, recipe, found)


def prepare(run: Run, name: str, recipe: Recipe, inputs: Mapping[str, Manifest]) -> Training:
    """The same with the data made: tokens, and log-probs of the reference where the objective, or rehearsal, has one.

    Raises DataError where some sequences lack a reward that the objective needs.
    """
    spec, start, settings = OBJECTIVES[recipe.objective.name], inputs["start"], recipe.settings
    others = again = None
    data = sequences(run, recipe.reads, inputs["groups"], inputs["base"], settings, recipe.objective.name)
    if spec.needs_rewards(recipe.objective):
        require_rewards(name, recipe.objective.name, data)
    if spec.needs_mismatched(recipe.objective):
        others = references(run, mismatched(run, data), start, settings)
    if spec.needs_reference:
        data = references(run, data, start, settings)
    if recipe.rehearsal is not None:
        told = sequences(run, "examples", inputs[REHEARSED], inputs["base"], recipe.rehearsed_settings)
        again = references(run, told, start, settings)
    measured = None
    if settings.probe is not None:
        verify = run.config.verify
        measured = Development(
            inputs["dev"].table("dev"), run.config.model.prompt, verify.answers, verify.timeout_seconds
        )
    return Training(place(run, name, recipe, inputs), start, data, others, again, recipe, measured)


def require_rewards(name: str, objective: str, data: Manifest) -> None:
    """Raise DataError where some of the sequences have a reward and others have none: then the arrays have none at all."""
    if lacking := data.counts.get("units_without_reward"):
        raise DataError(
            f"{name}: {objective} needs a reward for every sequence (or unit), and {lacking:,} in {data.uri} have none: give "
            "them a number, or leave them out of the data"
        )


def train(run: Run, training: Training, callbacks: Sequence[Any] = ()) -> Manifest:
    """Train, or go on with it, or find it done. callbacks: see `launch_training`."""
    stage, data, others = training.stage, training.data, training.mismatched
    if found := run.reuse(stage):
        if training.recipe.starts_others and "rounding" in found.facts and "float32" not in found.facts:
            log.warning(
                "%s: made when no other training began with it, so that only rounded weights (%s) are there; delete %s to have "
                "them in float32",
                *(stage.name, found.facts["rounding"]["dtype"], stage.uri),
            )
        return found
    started = time.monotonic()
    outcome = train_with_progress(
        label=f"train {training.name}",
        model=start_of(training.start),
        overrides=run.config.model.overrides,
        arrays=storage.join(data.uri, "arrays"),
        mismatched=storage.join(others.uri, "arrays") if others else None,
        num_groups=data.counts["groups"],
        objective=training.objective,
        settings=training.settings,
        out_uri=stage.uri,
        development=training.development,
        rehearsing=rehearsing_of(training),
        trainer=training.trainer,
        keep_float32=training.recipe.starts_others,
        callbacks=callbacks,
    )
    tell_of(stage.name, outcome)
    if run.in_force and (saw := collapse_of(outcome)):
        notify(run.config, "collapsed", f"{training.name}: {saw}", model=training.name, status=outcome.status)
    return run.publish(stage, started, facts=facts_of(outcome) | {"prompt": data.facts["prompt"]})


def rehearsing_of(training: Training) -> Rehearsing | None:
    """What the workers are told of it."""
    if training.rehearsed is None or training.recipe.rehearsal is None:
        return None
    return Rehearsing(storage.join(training.rehearsed.uri, "arrays"), training.recipe.rehearsal)


def tell_of(name: str, outcome: TrainOutcome) -> None:
    """Log what a user should hear of a training that has ended. name: of its stage."""
    found, lengths = outcome.facts, lengths_of(outcome)
    if reason := found["reason"]:
        of = f"{outcome.steps} of {found['total_steps']}"
        log.info("%s: %s (%s); the weights are those of step %s", name, outcome.status, reason, of)
    if found.get("guard_trips") and outcome.status == "done":
        log.warning(
            "%s: the guard saw a collapse at %d steps, and was told to warn only; at %s",
            *(name, found["guard_trips"], found["first_trip"]),
        )
    if lengths.get("too_long"):
        told = ("too_long", "dropped_groups", "dropped_members", "truncated", "sequences")
        log.warning(
            "%s: %d sequences are longer than train.max_length or the model's positions: %d groups and %d single sequences of "
            "others are dropped, %d are cut, %d are left",
            *(name, *(lengths.get(field, 0) for field in told)),
        )
    for note in found["notes"]:
        log.info("%s: %s", name, note)
    if (rounding := found.get("rounding")) and rounding["kept"] < KEPT_ENOUGH:
        log.warning(
            "%s: %s keeps %.0f %% of the weights that moved (cosine with the update %.2f); for the rest set export_dtype: "
            "float32, and dtype: float32 for the engine that scores it",
            *(name, rounding["dtype"], 100 * rounding["kept"], rounding["cosine"]),
        )


def collapse_of(outcome: TrainOutcome) -> str:
    """What the guard has seen, whether it ended the training or was told to warn only; empty if nothing."""
    if outcome.status in ("stopped_by_guard", "rolled_back"):
        return str(outcome.facts["reason"])
    return str(outcome.facts.get("first_trip") or "") if outcome.facts.get("guard_trips") else ""


def lengths_of(outcome: TrainOutcome) -> dict[str, int]:
    """Counts of the sequences."""
    return {name: outcome.facts[name] for name in LENGTHS if name in outcome.facts}


def facts_of(outcome: TrainOutcome) -> dict[str, Any]:
    """What the manifest says of a training that has ended."""
    found = outcome.facts
    facts = {
        "export": outcome.export_uri,
        "steps": outcome.steps,
        "status": outcome.status,
        "reason": found["reason"],
        "total_steps": found["total_steps"],
        "world_sizes": found["world_sizes"],
        "notes": found["notes"],
        "final": outcome.final,
        "lengths": lengths_of(outcome),
        "guard_trips": found.get("guard_trips", 0),
        "first_trip": found.get("first_trip", ""),
    }
    return facts | {name: found[name] for name in ("best_checkpoint", "float32", "rounding") if name in found}


def training_stage(run: Run, name: str, recipe: Recipe, inputs: Mapping[str, Manifest | Stage]) -> Stage:
    """The stage of one training; its key holds all that decides the weights, but for the order of sums over ranks."""
    deciding: dict[str, Any] = {
        "objective": recipe.objective,
        "train": recipe.settings,
        "overrides": run.config.model.overrides,
    }
    if recipe.rehearsal is not None:
        deciding["rehearsal"] = recipe.rehearsal
    if recipe.settings.probe is not None:  # what it finds can end the run, through the guard
        deciding["judge"] = {"answers": run.config.verify.answers, "timeout_seconds": run.config.verify.timeout_seconds}
    return run.stage(f"checkpoints/{name}", deciding, inputs)
