"""Beginnings of answers, and which of them go on. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from redi_ray.config.guided import GuidedSettings

WHOLE, CUT_OFF = "stop", "length"
"""Finish reasons of an answer that came to its end, and of one that did not."""
PLACES = 4
"""Decimals by which beginnings are put in order: the last bits of a number are another one's with other texts in its pack."""


@dataclass(frozen=True)
class Beam:
    """The beginning of an answer, or a whole one."""

    text: str | None = None
    """With the forced prefix; None where there is nothing yet."""
    values: tuple[float | None, ...] = ()
    """Of each step what was said of it; None of one that nothing was said of."""
    tokens: int = 0
    """Sampled for it."""
    ended: str | None = None
    """Its finish reason; None while it grows."""

    def score(self, value: str) -> float:
        """The number that orders it, -inf where nothing was said of its last step. value: as `GuidedSettings.value`."""
        if not self.values or self.values[-1] is None or math.isnan(self.values[-1]):
            return -math.inf
        known = [number for number in self.values if number is not None]
        return {
            "last": known[-1],
            "min": min(known),
            "mean": math.fsum(known) / len(known),
            "product": math.prod(known),
        }[value]

    def grown(self, text: str, finish_reason: str | None, tokens: int, steps: int, value: float | None) -> Beam:
        """Behind one more step. steps: how many its text has; value: what was said of the last."""
        before = (*self.values[: steps - 1], *[None] * (steps - 1 - len(self.values)))
        return Beam(text, (*before, value), self.tokens + tokens, WHOLE if finish_reason == WHOLE else None)


def in_order(beams: Iterable[Beam], value: str) -> list[Beam]:
    """The best first; of equal ones by their texts, so that the order depends on nothing else."""

    def place(beam: Beam) -> tuple[Any, ...]:
        score = beam.score(value)
        return (-round(score, PLACES) if math.isfinite(score) else math.inf, beam.text or "", beam.ended or "")

    return sorted(beams, key=place)


def go_on(
    before: Sequence[Beam], drawn: Sequence[Sequence[Beam]], settings: GuidedSettings, longest: int
) -> list[Beam]:
    """Which beginnings of a problem are kept, the best first.

    before: those that were; drawn: of each of them that grew, in their order, the same with one more step, none where no engine
    goes on. longest: tokens at which an answer is cut off. Whole answers stay, and the best of the others fill the rest of
    `keep`; equal texts count once.
    """
    ended, growing = [beam for beam in before if beam.ended], [beam for beam in before if not beam.ended]
    assert len(growing) == len(drawn), (len(growing), len(drawn))
    ended += [replace(beam, ended=CUT_OFF) for beam, steps in zip(growing, drawn, strict=True) if not steps]
    known = {(beam.text, bool(beam.ended)) for beam in ended}
    found: dict[tuple[str | None, bool], Beam] = {}
    for beam in in_order((beam for steps in drawn for beam in steps), settings.value):
        found.setdefault((beam.text, bool(beam.ended)), beam)
    new = [beam for key, beam in found.items() if key not in known][: max(0, settings.keep - len(ended))]
    cut = [replace(beam, ended=CUT_OFF) if not beam.ended and beam.tokens >= longest else beam for beam in new]
    return in_order([*ended, *cut], settings.value)


def cut_off(beams: Iterable[Beam], value: str) -> list[Beam]:
    """All of them as answers, the best first."""
    return in_order((beam if beam.ended else replace(beam, ended=CUT_OFF) for beam in beams), value)
