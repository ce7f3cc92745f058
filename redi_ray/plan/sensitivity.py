"""Which assumption moves the total most: each goes to either end of its range, the others stay."""

from __future__ import annotations

from dataclasses import dataclass

from redi_ray.plan.assumptions import Assumptions
from redi_ray.plan.costs import Inputs, Plan
from redi_ray.plan.estimate import estimate


@dataclass(frozen=True)
class Swing:
    """What one assumption does to the total (GPU-hours, or tokens where no GPU is used)."""

    name: str
    at_low: float
    at_high: float

    @property
    def width(self) -> float:
        return abs(self.at_high - self.at_low)


def swings(inputs: Inputs, assume: Assumptions, plan: Plan) -> list[Swing]:
    """Of every assumption that the plan has used and that has a range, the widest first."""
    used = used_by(plan)
    found = []
    for each in assume:
        if each.name in used and not each.known:
            low, high = (estimate(inputs, assume.with_value(each.name, end)).total for end in (each.low, each.high))
            found.append(Swing(each.name, low, high))
    return sorted(found, key=lambda swing: -swing.width)


def used_by(plan: Plan) -> set[str]:
    """Names of all assumptions that any figure rests on."""
    lists = [part.assumptions for parts in (plan.stages, plan.beside, plan.memory) for part in parts]
    return {name for names in [*lists, plan.storage_assumptions] for name in names}
