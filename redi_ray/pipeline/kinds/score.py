"""A column: what a scorer says of each sample."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from redi_ray.data.score.score import ScoreCounts, score_samples
from redi_ray.pipeline.kinds.kind import Kind, Outputs, Places
from redi_ray.stages.run import Run
from redi_ray.stages.scoring import asked_of, outside_of
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest, Stage

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step

COLUMN = "column"


def place(run: Run, step: Step, inputs: Places) -> Stage:
    scorer = step.settings
    deciding = {"scorer": scorer, "outside": outside_of(scorer), "prompt": run.config.model.prompt}
    return run.stage(COLUMN, deciding, inputs)


def make(run: Run, step: Step, inputs: Outputs) -> Manifest:
    stage = place(run, step, inputs)
    if found := run.reuse(stage):
        return found
    started, of = time.monotonic(), inputs["of"]
    asked = asked_of(run, inputs, storage.join(stage.uri, "work"))
    counts, told = score_samples(of.table(samples_of(of)), storage.join(stage.uri, COLUMN), step.settings, asked)
    facts = {"name": step.name, "scorer": step.settings.name, "grain": step.settings.grain, **summary(counts), **told}
    return run.publish(stage, started, counts={"in": counts.samples, "out": counts.samples}, facts=facts)


def samples_of(output: Manifest) -> str:
    """The table that holds an output's samples."""
    return output.stage.rsplit("/", 1)[-1]


def summary(counts: ScoreCounts) -> dict[str, Any]:
    """What the numbers are like, for the manifest."""
    mean = counts.total / counts.numbers if counts.numbers else None
    ends = {"min": counts.least, "max": counts.most} if counts.numbers else {"min": None, "max": None}
    labels = {"labels": dict(sorted(counts.labels.items()))} if counts.labels else {}
    return {"without": counts.without, "numbers": counts.numbers, "mean": mean, **ends, **labels}


KIND = Kind(
    name="score",
    takes={"of": ("traces", "verified"), "base": ("model",)},
    gives="column",
    stage=COLUMN,
    tables=(COLUMN,),
    place=place,
    make=make,
)
