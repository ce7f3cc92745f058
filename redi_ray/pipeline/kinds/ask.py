"""Problems that ask about the labelled steps of samples: what a judge of steps learns from."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from redi_ray.data.ask.questions import LABEL, OF_SAMPLES, OUT, SAMPLES, STEPS, Asking, ask
from redi_ray.data.sources.readers import DataError
from redi_ray.pipeline.kinds.kind import Kind, Outputs, Places
from redi_ray.stages.run import Run
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest, Stage

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step


def place(run: Run, step: Step, inputs: Places) -> Stage:
    return run.stage("problems", {"ask": step.settings}, inputs)


def make(run: Run, step: Step, inputs: Outputs) -> Manifest:
    stage = place(run, step, inputs)
    if found := run.reuse(stage):
        return found
    started, of = time.monotonic(), inputs["of"]
    root = of.table("verified")
    how = Asking(
        storage.resolve(root),
        storage.resolve(inputs["at"].table("column")),
        storage.resolve(stage.uri),
        step.settings,
        inputs["base"].facts["export"],
        run.config.model.overrides.trust_remote_code,
    )
    counts = ask([shard.removeprefix(root).lstrip("/") for shard in of.files("verified")], how)
    answers = {answer: counts[f"{OUT}/{answer}"] for answer in step.settings.question.answers}
    dropped = {
        name.replace(LABEL, "label "): number
        for name, number in sorted(counts.items())
        if not name.startswith((STEPS, OUT, SAMPLES))
    }
    samples = {name.removeprefix(OF_SAMPLES): n for name, n in counts.items() if name.startswith(OF_SAMPLES)}
    if not counts[OUT]:
        raise DataError(
            f"{step.name}: no step gives a question: of {counts[SAMPLES]} samples {samples} have none, of {counts[STEPS]} steps "
            f"{dropped}. Look at the labels of the column ({step.inputs['at']}), and at `right`, `wrong` and `part`"
        )
    facts = {
        "answers": answers,
        "samples": {"in": counts[SAMPLES], **samples},
        "contradicted": counts[f"{STEPS}/contradicted"],
    }
    sums = {"in": counts[STEPS], "out": counts[OUT]}
    return run.publish(stage, started, counts=sums, dropped=dropped, facts=facts)


KIND = Kind(
    name="ask",
    takes={"of": ("verified",), "at": ("column",), "base": ("model",)},
    gives="problems",
    stage="problems",
    tables=("problems",),
    place=place,
    make=make,
)
