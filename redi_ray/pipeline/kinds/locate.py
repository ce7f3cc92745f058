"""A column: where samples went wrong."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from redi_ray.cluster.capacity import Demand
from redi_ray.config.locators import RolloutLocator, StepJudge
from redi_ray.config.step_judges import GenerativeJudge
from redi_ray.data.locate import LOCATORS
from redi_ray.data.locate.locate import (
    FAILED,
    LABEL,
    LOCATED,
    NOT_ASKED,
    SAMPLES,
    STEPS,
    WITH_ERROR,
    counted,
    locate_samples,
)
from redi_ray.data.locate.locator import Work
from redi_ray.data.sources.readers import DataError
from redi_ray.pipeline.kinds.kind import Kind, Outputs, Places
from redi_ray.pipeline.kinds.score import COLUMN
from redi_ray.pipeline.room import of_engines, of_verifiers
from redi_ray.stages.bars import WorkBar, label_of
from redi_ray.stages.run import Run
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest, Stage

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step

VERIFIED = "verified"


def place(run: Run, step: Step, inputs: Places) -> Stage:
    locator = step.settings.locator
    deciding: dict[str, Any] = {"locate": step.settings, "outside": LOCATORS[locator.kind].outside(locator)}
    if isinstance(locator, RolloutLocator):
        deciding |= {"prompt": run.config.model.prompt, "verify": run.config.verify.first_pass()}
    if isinstance(locator, GenerativeJudge):
        deciding["prompt"] = run.config.model.prompt
    if (engine := _engine(run, step)) is not None:
        deciding["engine"] = engine
    return run.stage(COLUMN, deciding, inputs)


def _engine(run: Run, step: Step) -> Any:
    """The engine that answers, if one of ours does."""
    locator = step.settings.locator
    if isinstance(locator, GenerativeJudge) or (isinstance(locator, StepJudge) and locator.endpoint is None):
        return locator.engine or run.config.resources.engine
    return run.config.resources.engine if isinstance(locator, RolloutLocator) else None


def make(run: Run, step: Step, inputs: Outputs) -> Manifest:
    stage = place(run, step, inputs)
    if found := run.reuse(stage):
        return found
    started, resources = time.monotonic(), run.config.resources
    work = Work(
        settings=step.settings,
        samples=storage.resolve(inputs["of"].table(VERIFIED)),
        uri=storage.resolve(stage.uri),
        prompt=run.config.model.prompt,
        verify=run.config.verify.first_pass(),
        engine=resources.engine,
        model=inputs["model"].facts["export"] if "model" in inputs else None,
        verify_workers=resources.verify_workers,
        label_selector=resources.cpu_label_selector,
        step=step.name,
    )
    with WorkBar(label_of("locate", run.step), 0, "answers") as bar:
        counts, told = locate_samples(work, bar)
    dropped, rejected = counted(counts, NOT_ASKED), counted(counts, FAILED)
    if rejected and not counts[LOCATED]:
        raise DataError(
            f"{step.name}: the locator failed on every sample that it was asked about: {rejected}. What it said of each is in "
            f"{storage.join(stage.uri, 'rejects')}; delete {stage.uri} to ask again"
        )
    facts = {
        "name": step.name,
        "locator": step.settings.locator.kind,
        "grain": "span",
        "with_error": counts[WITH_ERROR],
        "steps": counts[STEPS],
        "labels": counted(counts, LABEL),
        **told,
    }
    sums = {"in": counts[SAMPLES], "out": counts[LOCATED]}
    return run.publish(stage, started, counts=sums, dropped=dropped, rejected=rejected, facts=facts)


def room(run: Run, step: Step) -> list[Demand]:
    """Engines, and what verifies continuations."""
    engine = _engine(run, step)
    if engine is None:
        return []
    verifiers = [of_verifiers(run.config)] if isinstance(step.settings.locator, RolloutLocator) else []
    return [of_engines(step.name, engine), *verifiers]


KIND = Kind(
    name="locate",
    takes={"of": (VERIFIED,), "model": ("model",)},
    gives="column",
    stage=COLUMN,
    tables=(COLUMN,),
    place=place,
    make=make,
    room=room,
)
