"""How much there is of samples that a selection keeps, and of groups that are made of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from statistics import fmean

from redi_ray.config.group_steps import GroupSettings
from redi_ray.config.selection import DiverseProblems, KeptSamples, RandomProblems
from redi_ray.plan.workload import BegunWorkload, Side, Workload


@dataclass(frozen=True)
class KeptWorkload(Workload):
    """Of the samples that a selection keeps, by a column or by chance."""

    begun: Workload | None = None
    """What it keeps them of."""
    wanted: KeptSamples | None = None
    like: float | None = None
    """Samples of the step as many of whose are kept."""

    @property
    def _of(self) -> tuple[Workload, KeptSamples]:
        assert self.begun is not None
        assert self.wanted is not None
        return self.begun, self.wanted

    @property
    def _side(self) -> str | None:
        """`correct` or `wrong` where all samples are that, by the verdicts that are admitted."""
        wanted = self._of[1].verdicts
        if wanted is None or {"correct", "wrong"} <= {*wanted}:
            return None
        return "correct" if "correct" in wanted else "wrong"

    def share(self, name: str) -> float:
        if self._side is None:
            return super().share(name)
        return float(self._side == "correct" and name != "paired")

    @property
    def traces(self) -> float:
        begun, wanted = self._of
        correct = begun.share("correct")
        found = begun.traces * {None: 1.0, "correct": correct, "wrong": 1 - correct}[self._side]
        if wanted.bounded:
            found *= self.assume["selected_share"]
        if wanted.per_problem is not None:
            found = min(found, self._asked * wanted.per_problem)
        most = wanted.overall if wanted.like is None else self.like
        return found if most is None else min(found, most)

    @property
    def _asked(self) -> float:
        """Problems with a sample of an admitted verdict."""
        begun = self._of[0]
        return begun.problems * (begun.share("solved") if self._side == "correct" else 1.0)

    @property
    def problems(self) -> float:
        return min(self._asked, self.traces)

    @property
    def positives(self) -> int:
        return min(super().positives, round(self.traces))

    @property
    def pairs(self) -> int:
        """A problem with one sample has none."""
        return min(super().pairs, round(self.traces - self.problems))

    @property
    def prompt(self) -> float:
        return self._of[0].prompt

    @property
    def _mean(self) -> float:
        return self._of[0]._mean


@dataclass(frozen=True)
class RandomWorkload(BegunWorkload):
    """Of the samples of problems that are taken by chance, or of the others; or of problems that differ."""

    taken: RandomProblems | DiverseProblems = field(default_factory=lambda: RandomProblems(problems=1))
    like: float | None = None
    """Problems of the step as many as whose are taken."""

    @property
    def problems(self) -> float:
        wanted = self.taken.problems if self.like is None else self.like
        assert wanted is not None, "the settings say how many"
        found = min(float(wanted), self._of.problems)
        return self._of.problems - found if isinstance(self.taken, RandomProblems) and self.taken.rest else found

    @property
    def traces(self) -> float:
        return self._of.traces * self.problems / max(self._of.problems, 1e-9)

    def share(self, name: str) -> float:
        return self._of.share(name)

    @property
    def prompt(self) -> float:
        return self._of.prompt

    @property
    def _mean(self) -> float:
        return self._of._mean


@dataclass(frozen=True)
class GroupedWorkload(BegunWorkload):
    """Of a problem's samples as one group: as many members of each side as the step's settings leave on the average. All that is
    not right counts as wrong, and what a column adds to a reward moves no member to the other side."""

    settings: GroupSettings = field(default_factory=GroupSettings)

    @property
    def _sides(self) -> tuple[float, float]:
        """Right and wrong members of a group on the average."""
        begun, settings = self._of, self.settings
        if settings.margin is not None:  # the highest and the lowest reward of each problem, at the most
            return 1.0, 1.0
        each = begun.traces / max(begun.problems, 1e-9)  # of none there are none
        right, wrong = each * begun.share("correct"), each * (1 - begun.share("correct"))
        if settings.rewards:
            right *= "correct" in settings.rewards
            wrong *= "wrong" in settings.rewards
        most = 1.0 if settings.frequent_answers is not None else settings.per_side
        if most is not None:
            right, wrong = min(right, most), min(wrong, most)
        if settings.both_sides:  # a group without one of each is left out
            right, wrong = max(right, 1.0), max(wrong, 1.0)
        if settings.most_wrong is not None:
            wrong = min(wrong, settings.most_wrong * right)
        over = max(1.0, (right + wrong) / settings.most) if settings.most is not None else 1.0
        return right / over, wrong / over

    @property
    def problems(self) -> float:
        return self._of.problems

    @property
    def traces(self) -> float:
        return self._of.traces

    def share(self, name: str) -> float:
        return self._of.share(name)

    @property
    def groups(self) -> int:
        settings, found = self.settings, self.problems
        if (settings.min_rate, settings.max_rate) != (0, 1) or settings.repeats:
            found *= self.assume["selected_share"]
        if settings.repeats:  # as if each were as frequent as the others
            found *= fmean(entry.times for entry in settings.repeats)
        if settings.both_sides:
            found *= self.share("paired")
        return round(found) if sum(self._sides) > settings.least - 0.5 else 0

    @property
    def positives(self) -> int:
        """A member each."""
        return round(self.groups * self._sides[0])

    @property
    def pairs(self) -> int:
        """Groups of one right member and one wrong one."""
        if round(sum(self._sides)) != 2:
            return 0
        all_paired = self.settings.both_sides or self.settings.margin is not None
        return self.groups if all_paired else round(self.groups * self.share("paired"))

    @property
    def members(self) -> list[Side]:
        return [replace(side, each=n) for side, n in zip((self.chosen, self.rejected), self._sides, strict=True) if n]

    @property
    def prompt(self) -> float:
        return min(self._of.prompt, self.config.curate.max_prompt_tokens)

    @property
    def _mean(self) -> float:
        return self._of._mean
