"""What models are asked beyond one answer a problem: turns with tools between them, and what locators ask about steps."""

from __future__ import annotations

import math
from dataclasses import replace

from redi_ray.config.locators import RolloutLocator, StepJudge
from redi_ray.config.tools import ToolSettings
from redi_ray.pipeline.graph import Step
from redi_ray.plan.assumptions import Assumptions
from redi_ray.plan.engines import Asked
from redi_ray.plan.workload import Workload, turns_with


def in_turns(asked: Asked, tools: ToolSettings | None, assume: Assumptions) -> Asked:
    """The same with tools, if there are any: as many tokens of the model's own in several turns."""
    if tools is None:
        return asked
    turns, outputs = turns_with(tools, assume)
    return replace(asked, turns=turns, outputs=outputs)


def to_judge(step: Step, judge: StepJudge, work: Workload) -> Asked:
    """Every sample that is asked about, once. work: of the samples."""
    wrong = step.settings.ask == "wrong"
    traces = work.traces * (1 - work.share("correct")) if wrong else work.traces
    shown = float(work.wrong.mean()) if wrong else work.trace_tokens
    seen = len(judge.prompt) / work.assume["bytes_per_token"] + work.prompt + shown
    written = min(work.assume["judge_tokens"], float(judge.max_tokens))
    return Asked(step.name, [step.name], traces, seen, written, shared=False)


def to_go_on(step: Step, locator: RolloutLocator, work: Workload) -> Asked:
    """Continuations from behind steps, half-way through a solution on the average: of a wrong one behind as many steps as the
    search looks at, if its error is as likely in each; of a right one, where it is asked about, behind all but the last."""
    steps, wrong = work.assume["steps"], work.traces * (1 - work.share("correct"))
    looked_at = math.log2(steps) if locator.search == "binary" else (steps - 1) * (steps + 2) / (2 * steps)
    places = wrong * max(0.0, looked_at)
    if step.settings.ask == "all" and locator.search == "linear":
        places += (work.traces - wrong) * max(0.0, steps - 1)
    mean = float(work.wrong.mean())
    written = min(mean / 2, float(locator.max_tokens))
    return Asked(step.name, [step.name], places * locator.samples, work.prompt + mean / 2, written)
