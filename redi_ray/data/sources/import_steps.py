"""A right and a wrong solution of a problem, step by step -> what both begin with, and the one step in which they part.

That is a pair of Step-DPO (dvlab-research/Step-DPO): the first wrong step against the right one in its place, everything before
it context, the header of the step too, and no end of turn behind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from redi_ray.data.sources.import_answers import LeftOut, Member
from redi_ray.data.sources.values import shown

NUMBER = "{k}"
"""Stands in a header for the step's number, from 1."""


@dataclass(frozen=True)
class Parting:
    """Where two solutions part."""

    before: str
    """What both begin with, the header of the step at its end."""
    right: str
    wrong: str

    def member(self, side: int) -> Member:
        """A side of the pair: one turn, of which the step alone has a weight. It is no whole answer: no end of turn follows."""
        step, begun = self.right if side > 0 else self.wrong, len(self.before)
        span = {"turn": 0, "start": begun, "end": begun + len(step), "value": 1.0}
        return Member([{"role": "assistant", "content": self.before + step}], side, finished=False, spans=[span])


def part(right: Any, wrong: Any, told: Any, *, has_told: bool, header: str, separator: str) -> Parting:
    """Two lists of steps -> where they part.

    told: index of the first wrong step, from 0, null where there is none, as a column has it (`has_told`); else it is the first
    that differs. Raises LeftOut.

    Example: [a, b], [a, c], header `Step {k}:` -> before `Step 1: a\\nStep 2:`, right ` b`, wrong ` c`.
    """
    for name, steps in (("steps_right", right), ("steps_wrong", wrong)):
        if not isinstance(steps, list) or not all(isinstance(step, str) and step.strip() for step in steps):
            raise LeftOut("no_steps", f"{name} must be a list of texts that are not empty, and is {shown(steps)}")
    differing = next((k for k, (one, other) in enumerate(zip(right, wrong, strict=False)) if one != other), None)
    if has_told and told is None:
        raise LeftOut("no_wrong_step", "the data say that no step is wrong", by_rule=True)
    if differing is None:
        raise LeftOut("same_steps", f"the first {min(len(right), len(wrong))} steps are equal, and one side ends there")
    if has_told and (isinstance(told, bool) or told != differing):
        raise LeftOut(
            "first_error_differs",
            f"the first wrong step is said to be {shown(told)}, and the first that differs is {differing}",
        )
    blank = " " if header else ""
    heads = [header.replace(NUMBER, str(k + 1)) for k in range(differing + 1)]
    begun = [f"{head}{blank}{step}{separator}" for head, step in zip(heads, right[:differing], strict=False)]
    return Parting("".join(begun) + heads[differing], blank + right[differing], blank + wrong[differing])
