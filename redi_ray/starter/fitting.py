"""What can be done with a set: the recipes that fit it, the likeliest first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from redi_ray.starter.blocks import Lines
from redi_ray.starter.head import StartError
from redi_ray.starter.reading import Reading, What, marks_of
from redi_ray.starter.student import Student
from redi_ray.starter.writing import (
    imported_answers,
    imported_pairs,
    imported_rewards,
    imported_steps,
    sampled_line,
    traces_line,
)


@dataclass(frozen=True)
class Fitting:
    """A way from data to a trained model."""

    name: str
    does: str
    """In a line."""
    takes: frozenset[What]
    write: Callable[[Reading, Student], Lines]
    """The sections that it adds."""
    vllm: bool = False
    """Whether it samples."""


FITTING = {
    fitting.name: fitting
    for fitting in (
        Fitting(
            "redi",
            "verify the traces, make positives and pairs, SFT, then REDI with and without negatives",
            frozenset({"openr1", "traces"}),
            traces_line,
        ),
        Fitting(
            "preferences",
            "REDI on the pairs, and beside it the same training without negatives",
            frozenset({"preference"}),
            imported_pairs,
        ),
        Fitting("sft", "learn the answers as they are", frozenset({"sft", "solutions"}), imported_answers),
        Fitting("kto", "learn right answers, unlearn wrong ones", frozenset({"unpaired"}), imported_answers),
        Fitting("advantage", "weigh each sample by its reward", frozenset({"rollouts"}), imported_rewards),
        Fitting("step_pairs", "prefer the right step to the first wrong one", frozenset({"steps"}), imported_steps),
        Fitting(
            "sample",
            "sample traces from the model itself, verify them, SFT on the right ones, then REDI with and without negatives",
            frozenset({"problems", "solutions"}),
            sampled_line,
            vllm=True,
        ),
    )
}
"""By name, the first that fits a set is taken where nobody chooses."""


def fitting(reading: Reading) -> list[Fitting]:
    """Those that fit. What samples needs answers that can be compared, not only texts that hold one."""
    found = [one for one in FITTING.values() if reading.what in one.takes]
    return [one for one in found if not one.vllm or _has_gold(reading)]


def chosen(reading: Reading, name: str | None) -> Fitting:
    """The one of this name, or the likeliest. Raises StartError for one that does not fit."""
    found = {one.name: one for one in fitting(reading)}
    if name is None:
        return next(iter(found.values()))
    if name not in found:
        fits = f"what fits these data: {', '.join(found)}"
        known = f"{name} is for other data" if name in FITTING else f"there is no {name}"
        raise StartError(f"--recipe {name}: {known}; {fits}. (`redi-ray recipes` lists all)")
    return found[name]


def _has_gold(reading: Reading) -> bool:
    if "answer" in reading.guesses:
        return True
    solution = reading.guesses.get("solution")
    return solution is not None and bool(marks_of(reading.columns[solution.column].texts))
