"""What models are asked beyond one answer a problem: turns with tools between them, what locators ask about steps, and
searches that steps guide."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from redi_ray.config.guided import GuidedSettings
from redi_ray.config.locators import RolloutLocator, StepJudge
from redi_ray.config.paraphrase import Rewriter, VariantJudge
from redi_ray.config.step_judges import GenerativeJudge
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


def to_reword(step: Step, problems: float, work: Workload) -> Iterator[tuple[str, Rewriter | VariantJudge, Asked]]:
    """(name of the model's shape, the model, what it is asked): each problem once to be written in other words, and once to be
    compared with that."""
    by, judge = step.settings.by, step.settings.judged_by
    frame = len(by.prompt) / work.assume["bytes_per_token"]
    yield step.name, by, Asked(step.name, [step.name], problems, frame + work.prompt, work.prompt, shared=False)
    frame = len(judge.prompt) / work.assume["bytes_per_token"]
    written = min(work.assume["judge_tokens"], float(judge.max_tokens))
    name = f"{step.name}: judge"
    yield name, judge, Asked(name, [step.name], problems, frame + 2 * work.prompt, written, shared=False)


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


def to_search(guided: GuidedSettings, steps: list[str], problems: float, whole: Asked, assume: Assumptions) -> Asked:
    """Steps of a guided search: at each of an answer's as many as its width, behind half an answer on the average; whole answers
    take a place no more, which is left out. whole: of an answer at a time."""
    each = max(1.0, min(assume["steps"], float(guided.max_steps)))
    written = min(whole.written / each, float(guided.max_step_tokens))
    return Asked("evaluate: guided", steps, problems * guided.width * each, whole.prompt + whole.written / 2, written)


def to_weigh(judge: GenerativeJudge, steps: list[str], drawn: Asked, assume: Assumptions) -> Asked:
    """What a judge is asked about each of them: its analyses, or one word."""
    seen = len(judge.question.prompt) / assume["bytes_per_token"] + drawn.prompt
    written = min(assume["judge_tokens"], float(judge.max_tokens)) + 1 if judge.analyses else 1.0
    return Asked("evaluate: guided, steps", steps, drawn.samples * max(1, judge.analyses), seen, written, shared=False)
