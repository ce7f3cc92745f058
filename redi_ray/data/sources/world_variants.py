"""Variants of the chains of the built-in world that keep their answers: a step that changes nothing, two steps of equal rank in
the other order, a digit restated modulo 10. Made by the chain's form, checked by working both chains out."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from redi_ray.data.sources.world import answer, read_chain, write_chain
from redi_ray.text.variants import NotPerturbed, Perturbation, Problem

NEUTRAL = (("+", 0), ("-", 0), ("*", 1))
"""Steps that change nothing."""


def _insert(problem: Problem, chance: random.Random, settings: Any) -> str:
    first, steps = read_chain(problem.text)
    at = chance.randint(0, len(steps))
    return write_chain((first, (*steps[:at], chance.choice(NEUTRAL), *steps[at:])))


def _swap(problem: Problem, chance: random.Random, settings: Any) -> str:
    first, steps = read_chain(problem.text)
    pairs = [
        at
        for at in range(len(steps) - 1)
        if (steps[at][0] == "*") == (steps[at + 1][0] == "*") and steps[at] != steps[at + 1]
    ]
    if not pairs:
        raise NotPerturbed("no_independent_facts")
    at = chance.choice(pairs)
    return write_chain((first, (*steps[:at], steps[at + 1], steps[at], *steps[at + 2 :])))


def _restate(problem: Problem, chance: random.Random, settings: Any) -> str:
    first, steps = read_chain(problem.text)
    places = [at for at, (operator, digit) in enumerate(steps) if operator != "*" and digit]
    if not places:
        raise NotPerturbed("no_number_to_restate")
    at = chance.choice(places)
    operator, digit = steps[at]
    restated = ("-" if operator == "+" else "+", 10 - digit)
    return write_chain((first, (*steps[:at], restated, *steps[at + 1 :])))


def _same_result(problem: Problem, variant: str) -> str | None:
    if variant == problem.text:
        return "nothing_changed"
    return None if answer(variant) == answer(problem.text) else "result_changed"


WORLD_PERTURBATIONS: Mapping[str, Perturbation] = {
    "distractor": Perturbation(_insert, _same_result),
    "order": Perturbation(_swap, _same_result),
    "numbers": Perturbation(_restate, _same_result),
}
