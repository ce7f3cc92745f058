"""Stage 1 and the arms of stage 2: the same launcher with another objective."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from redi_ray import storage
from redi_ray.config.objectives import Objective
from redi_ray.config.training import TrainSettings
from redi_ray.objectives import OBJECTIVES
from redi_ray.stages.launch import train_with_progress
from redi_ray.stages.references import references
from redi_ray.stages.run import Run
from redi_ray.stages.sequences import Kind, mismatched, sequences
from redi_ray.storage import Manifest, Stage
from redi_ray.train.launch import Development


def sft(run: Run, curated: Manifest, base: Manifest, dev: Manifest | None = None) -> Manifest:
    """Stage 1: fine-tune the base model on the positives. `dev`: the development problems, where a probe is set."""
    config = run.config.sft
    return _train(
        run, "sft", "examples", config.objective, config.train, start=base, curated=curated, base=base, dev=dev
    )


def arm(run: Run, name: str, curated: Manifest, base: Manifest, sft: Manifest, dev: Manifest | None = None) -> Manifest:
    """One arm of stage 2: from the SFT model, on the pairs. `dev`: the development problems, where a probe is set."""
    config = run.config.redi
    objective, settings = config.arms[name].objective, config.settings(name)
    return _train(run, name, "pairs", objective, settings, start=sft, curated=curated, base=base, dev=dev)


def _train(
    run: Run,
    name: str,
    kind: Kind,
    objective: Objective,
    settings: TrainSettings,
    *,
    start: Manifest,
    curated: Manifest,
    base: Manifest,
    dev: Manifest | None,
) -> Manifest:
    spec, others = OBJECTIVES[objective.name], None
    data = sequences(run, kind, curated, base, settings)
    if spec.needs_mismatched(objective):
        others = references(run, mismatched(run, data), start, settings)
    if spec.needs_reference:
        data = references(run, data, start, settings)
    inputs = {"sequences": data, "start": start} | ({"mismatched": others} if others else {})
    measured = None
    if settings.probe is not None:
        assert dev is not None, "the pipeline makes them wherever a probe is set"
        inputs["dev"], verify = dev, run.config.verify
        measured = Development(dev.table("dev"), run.config.model.prompt, verify.answers, verify.timeout_seconds)
    stage = training_stage(run, name, objective, settings, inputs)
    if found := run.reuse(stage):
        return found
    started = time.monotonic()
    outcome = train_with_progress(
        label=f"train {name}",
        model=start.facts["export"],
        overrides=run.config.model.overrides,
        arrays=storage.join(data.uri, "arrays"),
        mismatched=storage.join(others.uri, "arrays") if others else None,
        num_groups=data.counts["groups"],
        objective=objective,
        settings=settings,
        out_uri=stage.uri,
        development=measured,
        trainer=run.config.resources.trainer,
    )
    facts = {
        "export": outcome.export_uri,
        "steps": outcome.steps,
        "status": outcome.status,
        "final": outcome.final,
        "prompt": data.facts["prompt"],
    }
    return run.publish(stage, started, facts=facts)


def training_stage(
    run: Run, name: str, objective: Objective, settings: TrainSettings, inputs: Mapping[str, Manifest]
) -> Stage:
    """The stage of one training; its key holds all that decides the weights."""
    told: dict[str, Any] = {
        "objective": objective,
        "train": settings,
        "overrides": run.config.model.overrides,
        # the sums of gradients are ordered by rank, so another number of workers gives other last bits
        "num_workers": run.config.resources.trainer.num_workers,
    }
    if settings.probe is not None:  # what it finds can end the run, through the guard
        told["judge"] = {"answers": run.config.verify.answers, "timeout_seconds": run.config.verify.timeout_seconds}
    return run.stage(f"checkpoints/{name}", told, inputs)
