"""What a reader of a report should know first: what has not been run, what ended early, what does not belong together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Set
from typing import Any

from redi_ray.config.load import parse_config
from redi_ray.pipeline.graph import Step
from redi_ray.pipeline.states import State, states
from redi_ray.report.runs import MODELS, ArmRecord, RunRecord
from redi_ray.stages.run import Run
from redi_ray.store.storage import join, list_files

DATA = ("problems", "traces", "verified", "groups")
"""Types of outputs whose lack is told."""


def missing_and_odd(run: RunRecord) -> Iterator[str]:
    """A sentence for each finding."""
    yield from (f"Stage {step.name}: not run." for step in run.steps(*DATA) if run.stages[step.stage] is None)
    verified = [found for step in run.steps("verified") if (found := run.stages[step.stage]) is not None]
    if any(found.facts.get("inverted") for found in verified):
        yield (
            "Labels are inverted (verify.invert_labels): training prefers what was called wrong. This is a negative control, "
            "no result."
        )
    yield from _missing_models(run)
    if not run.understood and run.config_text:
        yield "config.yaml: not of this version, so that what is missing is told by what could be understood of it."
    wanted = {step.name for step in run.steps("model")}
    for arm in run.arms:
        yield from _about(arm)
        if run.understood and arm.name not in wanted:
            yield f"Arm {arm.name} is not in the config: it is left from an earlier one."
        yield from _not_finite(arm)


def standings(run: RunRecord) -> list[State] | None:
    """Where each step of the run stands; None, with a note, if that cannot be told."""
    if not run.understood:
        return None
    try:
        return states(run.graph, Run(parse_config(run.config), run.uri))
    except Exception as error:  # as in reading: a report is wanted most when something went wrong
        run.notes.append(f"The state of the steps cannot be told ({type(error).__name__}: {error}).")
        return None


def _missing_models(run: RunRecord) -> Iterator[str]:
    arms, begun = {arm.name: arm for arm in run.arms}, _begun(run.uri)
    scored = {step.inputs["model"] for step in run.steps("scores")}
    for step in run.steps("model"):
        arm = arms.get(step.name)
        if step.kind != "base" and (arm is None or arm.checkpoint is None):
            told = "begun, but not finished; the same command goes on, or says why not"
            yield f"{_work(step)} of {step.name}: {told if step.name in begun else 'not run'}."
        if step.name in scored and (arm is None or not arm.results):
            yield f"Evaluation of {step.name}: not run."


def _work(step: Step) -> str:
    return {"train": "Training"}.get(step.kind, step.kind.title())


def _begun(run_uri: str) -> Set[str]:
    """Models whose training has come to a step, finished or not."""
    files = list_files(join(run_uri, MODELS), "/metrics.jsonl")
    return {file.split(f"/{MODELS}/")[-1].split("/")[0] for file in files}


def _about(arm: ArmRecord) -> Iterator[str]:
    checkpoint, evaluation = arm.checkpoint, arm.evaluation
    if checkpoint is None:
        return
    status = checkpoint.facts.get("status", "done")
    if status != "done":
        yield _early_end(arm.name, status, checkpoint.facts)
    elif trips := checkpoint.facts.get("guard_trips", 0):
        yield (
            f"Training of {arm.name}: the guard, which only warned, saw a collapse at {trips} steps "
            f"({checkpoint.facts['first_trip']})."
        )
    if len(sizes := checkpoint.facts.get("world_sizes", [])) > 1:
        changes = ", ".join(f"{ranks} from step {step}" for step, ranks in sizes)
        yield f"Training of {arm.name} changed its number of ranks: {changes}."
    if evaluation and evaluation.inputs.get("checkpoint", checkpoint.key) != checkpoint.key:
        yield f"The scores of {arm.name} are those of an earlier checkpoint: evaluate it again."


def _early_end(arm: str, status: str, facts: Mapping[str, Any]) -> str:
    """Which weights these are, and why there are no later ones."""
    at = f" The weights are those of step {facts['steps']} of {facts['total_steps']}." if "total_steps" in facts else ""
    return f"Training of {arm} ended early: {status}{f' ({why})' if (why := facts.get('reason')) else ''}.{at}"


def _not_finite(arm: ArmRecord) -> Iterator[str]:
    bad = sorted({key for step in arm.steps for key, value in step.items() if not math.isfinite(value)})
    if bad:
        count = sum(any(not math.isfinite(value) for value in step.values()) for step in arm.steps)
        yield f"Training of {arm.name}: {count} steps with non-finite {', '.join(bad)}."
