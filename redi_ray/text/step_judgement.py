"""What a judge of steps is asked, and which labels its output gives them. Pure; see `redi_ray.text.judgement`."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from redi_ray.config.locators import StepJudge
from redi_ray.config.prompts import END_THINK, THINK
from redi_ray.text.judgement import break_up, fence
from redi_ray.text.steps import NEUTRAL, RIGHT, UNSEEN, WRONG, first_wrong, without_header

_LINE = re.compile(r"Step (\d{1,9}): *(correct|neutral|incorrect)\.?", re.IGNORECASE)
_LABELS = {"correct": RIGHT, "neutral": NEUTRAL, "incorrect": WRONG}
_EMPHASIS = str.maketrans("", "", "*`")


def steps_prompt(
    judge: StepJudge, *, problem: str, answer: str, steps: Sequence[str], special_tokens: Collection[str] = ()
) -> str:
    """The user message. steps: texts, in order; their own headers give way to numbers from 1. special_tokens: the judge's."""
    numbered = "\n".join(f"Step {number}: {without_header(step).strip()}" for number, step in enumerate(steps, 1))
    shown = {"problem": problem, "answer": answer, "steps": fence(numbered)}
    return judge.prompt.format(**{name: break_up(text, special_tokens) for name, text in shown.items()})


def read_labels(output: str, steps: int, judge: StepJudge, *, finished: bool) -> tuple[list[str] | None, str]:
    """(the labels of so many steps, "") from a judge's output, or (None, why there are none). finished: it was not cut off.

    Reasoning up to the last `</think>` is not looked at. The last lines must count the steps from 1, one verdict each, up to the
    last step or the first wrong one, and no line above may be such a verdict: a judge that says two things has said nothing.
    """
    if not finished:
        return None, "truncated"
    spoken = output.rpartition(END_THINK)[2]
    lines = [line for line in (line.translate(_EMPHASIS).strip() for line in spoken.split("\n")) if line]
    said = [_LINE.fullmatch(line) for line in lines]
    verdicts = [(int(match[1]), _LABELS[match[2].lower()]) for match in said if match]
    if THINK in spoken or not verdicts or not all(said[-len(verdicts) :]):
        return None, "unparseable"
    numbers, labels = (list(column) for column in zip(*verdicts, strict=True))
    if numbers != list(range(1, len(labels) + 1)) or len(labels) > steps:
        return None, "steps_miscounted"
    if judge.neutral == "right":
        labels = [RIGHT if label == NEUTRAL else label for label in labels]
    if WRONG in labels[:-1]:
        return None, "goes_on_behind_the_wrong_step"
    if len(labels) < steps and labels[-1] == RIGHT:
        return None, "ends_before_the_last_step"
    return up_to_first_wrong(labels, steps), ""


def up_to_first_wrong(labels: Sequence[str], steps: int) -> list[str]:
    """As many labels as there are steps: those behind the first wrong one are unseen.

    Example: `up_to_first_wrong(["right", "neutral", "right"], 4) == ["right", "neutral", "unseen", "unseen"]`.
    """
    wrong = first_wrong(labels)
    seen = len(labels) if wrong is None else wrong + 1
    return [*labels[:seen], *[UNSEEN] * (steps - seen)]
