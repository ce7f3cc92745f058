"""Stage 1 and the arms of stage 2: the same launcher with another objective."""

from __future__ import annotations

import time

from redi_ray import storage
from redi_ray.config.objectives import Objective
from redi_ray.config.training import TrainSettings
from redi_ray.objectives import OBJECTIVES
from redi_ray.stages.launch import train_with_progress
from redi_ray.stages.references import references
from redi_ray.stages.run import Run
from redi_ray.stages.sequences import Kind, mismatched, sequences
from redi_ray.storage import Manifest


def sft(run: Run, curated: Manifest, base: Manifest) -> Manifest:
    """Stage 1: fine-tune the base model on the positives."""
    config = run.config.sft
    return _train(run, "sft", "examples", config.objective, config.train, start=base, curated=curated, base=base)


def arm(run: Run, name: str, curated: Manifest, base: Manifest, sft: Manifest) -> Manifest:
    """One arm of stage 2: from the SFT model, on the pairs."""
    config = run.config.redi
    objective, settings = config.arms[name].objective, config.settings(name)
    return _train(run, name, "pairs", objective, settings, start=sft, curated=curated, base=base)


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
) -> Manifest:
    spec, others = OBJECTIVES[objective.name], None
    data = sequences(run, kind, curated, base, settings)
    if spec.needs_mismatched(objective):
        others = references(run, mismatched(run, data), start, settings)
    if spec.needs_reference:
        data = references(run, data, start, settings)
    trainer = run.config.resources.trainer
    told = {
        "objective": objective,
        "train": settings,
        "overrides": run.config.model.overrides,
        # the sums of gradients are ordered by rank, so another number of workers gives other last bits
        "num_workers": trainer.num_workers,
    }
    inputs = {"sequences": data, "start": start} | ({"mismatched": others} if others else {})
    stage = run.stage(f"checkpoints/{name}", told, inputs)
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
        trainer=trainer,
    )
    facts = {
        "export": outcome.export_uri,
        "steps": outcome.steps,
        "status": outcome.status,
        "final": outcome.final,
        "prompt": data.facts["prompt"],
    }
    return run.publish(stage, started, facts=facts)
