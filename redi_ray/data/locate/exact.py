"""The first wrong step by recomputing every line, in the built-in world: there is one right line at each place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from redi_ray.config.prompts import THINK
from redi_ray.data.locate.locator import Failed, Find, Labelled, Locator, Steps, Work
from redi_ray.data.sources.world import OPERATORS, answer, apply, read_chain
from redi_ray.text.boxes import extract_boxed
from redi_ray.text.step_judgement import up_to_first_wrong
from redi_ray.text.steps import RIGHT, WRONG

_CHAIN = re.compile(rf"[0-9](?:[{re.escape(OPERATORS)}][0-9])*")


def right_lines(problem: str) -> list[str]:
    """The lines of a problem's solution, each once: `3+4*2` has `3+4=7` and `7*2=4`. Raises ValueError for what is no chain."""
    if _CHAIN.fullmatch(problem) is None:
        raise ValueError(f"{problem[:60]!r} is no chain such as 3+4*2")
    value, steps = read_chain(problem)
    lines = []
    for operator, digit in steps:
        result = apply(value, operator, digit)
        lines.append(f"{value}{operator}{digit}={result}")
        value = result
    return lines


def labels_of(problem: str, steps: list[str]) -> list[str]:
    """`right` up to the first step that is not the right line at its place, nor, behind all lines, the right answer in a box."""
    lines, boxed = right_lines(problem), answer(problem)
    labels = []
    for place, step in enumerate(steps):
        said = step.strip().removeprefix(THINK).strip()
        right = said == lines[place] if place < len(lines) else place == len(lines) and extract_boxed(said) == boxed
        labels.append(RIGHT if right else WRONG)
        if not right:
            break
    return up_to_first_wrong(labels, len(steps))


def start(work: Work, name: str) -> Find:
    """Recomputes every line."""

    def find(row: Mapping[str, Any], steps: Steps) -> Labelled | Failed:
        try:
            return Labelled(labels_of(row["problem"], steps.texts))
        except ValueError as error:
            return Failed("not_of_the_built_in_world", str(error), row["problem"])

    return find


EXACT = Locator(start)
