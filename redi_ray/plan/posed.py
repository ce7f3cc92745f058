"""How much there is of problems that are made of other steps' samples, and of what is put together without a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import numpy as np

from redi_ray.config.self_verification import SelfVerifySettings
from redi_ray.plan.workload import BegunWorkload, Side


@dataclass(frozen=True)
class PosedWorkload(BegunWorkload):
    """Of problems that are made of traces, one of each: as long as the trace and its problem together, with what is asked about
    them; how often they are solved, and how long the answers are, is taken to be as elsewhere."""

    asks: str = ""
    """The prompt."""

    @property
    def problems(self) -> float:
        return self._of.traces

    @property
    def _shown(self) -> float:
        """Tokens of what is asked about."""
        return self._of.trace_tokens

    @property
    def prompt(self) -> float:
        return self._of.prompt + self._shown + len(self.asks) / self.assume["bytes_per_token"]


@dataclass(frozen=True)
class StepsWorkload(PosedWorkload):
    """Of problems that ask about each step, all having labels, with the trace up to there: half of it on the average."""

    @property
    def problems(self) -> float:
        return self._of.traces * self.assume["steps"]

    @property
    def _shown(self) -> float:
        return self._of.trace_tokens / 2


@dataclass(frozen=True)
class MembersWorkload(PosedWorkload):
    """Of problems that ask about each member of groups."""

    @property
    def problems(self) -> float:
        return self._of.groups * sum(side.each for side in self._of.members)

    @property
    def _shown(self) -> float:
        sides = self._of.members
        return sum(side.each * side.scored for side in sides) / max(sum(side.each for side in sides), 1e-9)


Posing = tuple[type[PosedWorkload], Callable[[Any], str]]
POSED: dict[str, Posing] = {
    "pose": (PosedWorkload, lambda settings: settings.template),
    "hand_over": (PosedWorkload, lambda settings: settings.brief or ""),
    "ask": (StepsWorkload, lambda settings: settings.question.prompt),
    "examine": (MembersWorkload, lambda settings: settings.prompt),
}
"""Kinds that make problems of samples -> of which each is made, and what they add to it."""


@dataclass(frozen=True)
class GivenWorkload(BegunWorkload):
    """Of texts that are right and that no model writes."""

    @property
    def traces(self) -> float:
        return self.problems

    def share(self, name: str) -> float:
        return float(name != "paired")

    @property
    def prompt(self) -> float:
        return self._of.prompt


@dataclass(frozen=True)
class StatedWorkload(GivenWorkload):
    """Of each problem's reference answer in a fixed form."""

    text: str = ""

    @property
    def problems(self) -> float:
        return self._of.problems

    @property
    def correct(self) -> np.ndarray:
        return np.array([len(self.text) / self.assume["bytes_per_token"]])


@dataclass(frozen=True)
class SelfVerifiedWorkload(GivenWorkload):
    """Of texts of several attempts, one of each group: as if the numbers of attempts were equally frequent, and no group lacked
    the wrong answers."""

    settings: SelfVerifySettings = field(default_factory=SelfVerifySettings)
    paired: bool = False
    """Whether all groups have a right sample, which a text must end with."""

    @property
    def problems(self) -> float:
        kept = fmean(chain.share for chain in self.settings.chains)
        return self._of.groups * kept * (1.0 if self.paired else self._of.share("solved"))

    @property
    def positives(self) -> int:
        return round(self.problems)

    @property
    def groups(self) -> int:
        return self.positives

    @property
    def correct(self) -> np.ndarray:
        """A right attempt behind wrong ones, each with its verification."""
        of, settings = self._of, self.settings
        attempts = fmean(chain.attempts for chain in settings.chains)
        said = settings.form.recheck + settings.form.again + settings.says_wrong[0]
        verified = attempts * len(said) / self.assume["bytes_per_token"]
        found: np.ndarray = of.chosen.completions + (attempts - 1) * of.rejected.scored + verified
        return found

    @property
    def members(self) -> list[Side]:
        return [self.chosen]
