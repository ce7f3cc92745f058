"""The same of what named steps make: sets that are imported, samples that are continued, kept or grouped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from redi_ray.config.group_steps import GroupSettings
from redi_ray.config.selection import KeptSamples
from redi_ray.pipeline.graph import Graph
from redi_ray.pipeline.rounds import written
from redi_ray.plan.imported import ImportedSample
from redi_ray.plan.workload import Side, Workload


@dataclass(frozen=True)
class ImportedWorkload(Workload):
    """Of a set that a step imports: counted and measured, nothing assumed."""

    imported: ImportedSample | None = None

    @property
    def _seen(self) -> ImportedSample:
        assert self.imported is not None
        return self.imported

    @property
    def positives(self) -> int:
        return self._seen.positives

    @property
    def pairs(self) -> int:
        return self._seen.pairs

    @property
    def groups(self) -> int:
        return self._seen.groups

    @property
    def prompt(self) -> float:
        return self._seen.prompt

    @property
    def chosen(self) -> Side:
        return Side(self.prompt, self._seen.chosen)

    @property
    def rejected(self) -> Side:
        return Side(self.prompt, self._seen.rejected)

    @property
    def members(self) -> list[Side]:
        found = zip((self.chosen, self.rejected), self._seen.members, strict=True)
        return [replace(side, each=each) for side, each in found if each]


@dataclass(frozen=True)
class ContinuedWorkload(Workload):
    """Of what goes on from where wrong traces go wrong, each as from a problem of its own: from all of them, half-way."""

    begun: Workload | None = None
    """The traces."""
    most: int | None = None
    """Where a model goes on from behind every token: of so many of them."""

    @property
    def _from(self) -> Workload:
        assert self.begun is not None
        return self.begun

    @property
    def problems(self) -> float:
        wrong = self._from.traces * (1 - self._from.share("correct"))
        return wrong if self.most is None else min(wrong, self.most) * float(self._from.wrong.mean())

    @property
    def prompt(self) -> float:
        return self._from.prompt + float(self._from.wrong.mean()) / 2

    @property
    def _mean(self) -> float:
        return super()._mean / 2


@dataclass(frozen=True)
class PosedWorkload(Workload):
    """Of problems that are made of traces, one of each: as long as the trace and its problem together, with what is asked about
    them; how often they are solved, and how long the answers are, is taken to be as elsewhere."""

    begun: Workload | None = None
    """The traces."""
    asks: str = ""
    """The prompt."""

    @property
    def _of(self) -> Workload:
        assert self.begun is not None
        return self.begun

    @property
    def problems(self) -> float:
        return self._of.traces

    @property
    def prompt(self) -> float:
        return self._of.prompt + self._of.trace_tokens + len(self.asks) / self.assume["bytes_per_token"]


@dataclass(frozen=True)
class OpenedWorkload(Workload):
    """Of problems that are the first turns of dialogues, one of each."""

    begun: Workload | None = None
    """The dialogues."""

    @property
    def problems(self) -> float:
        assert self.begun is not None
        return self.begun.positives

    @property
    def prompt(self) -> float:
        assert self.begun is not None
        return self.begun.prompt


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
class GroupedWorkload(Workload):
    """Of a problem's samples as one group: as many members of each side as the step's settings leave on the average. All that is
    not right counts as wrong, and what a column adds to a reward moves no member to the other side."""

    begun: Workload | None = None
    """The samples."""
    settings: GroupSettings = field(default_factory=GroupSettings)

    @property
    def _of(self) -> Workload:
        assert self.begun is not None
        return self.begun

    @property
    def _sides(self) -> tuple[float, float]:
        """Right and wrong members of a group on the average."""
        begun, settings = self._of, self.settings
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
        return self.groups if self.settings.both_sides else round(self.groups * self.share("paired"))

    @property
    def members(self) -> list[Side]:
        return [replace(side, each=n) for side, n in zip((self.chosen, self.rejected), self._sides, strict=True) if n]

    @property
    def prompt(self) -> float:
        return min(self._of.prompt, self.config.curate.max_prompt_tokens)

    @property
    def _mean(self) -> float:
        return self._of._mean


POSED: dict[str, Callable[[Any], str]] = {
    "pose": lambda settings: settings.template,
    "hand_over": lambda settings: settings.brief or "",
}
"""Kinds that make a problem of each sample -> what they add to it."""


def workload_of(graph: Graph, name: str, whole: Workload) -> Workload:
    """The traces, with or without verdicts, or the groups that a step makes. whole: of the config as it stands."""
    step = graph[name]
    if step.kind == "import":
        return ImportedWorkload(
            whole.config, whole.sample, whole.assume, imported=whole.sample.imported[written(step.name)]
        )
    before = workload_of(graph, step.inputs["of"], whole) if "of" in step.inputs else replace(whole, own=step.own)
    source = graph.steps.get(step.inputs.get("problems", ""))
    if source is not None and source.kind in ("starts", "token_starts"):
        begun, each = workload_of(graph, source.inputs["of"], whole), source.kind == "token_starts"
        most = source.settings.max_samples if each else None
        before = ContinuedWorkload(whole.config, whole.sample, whole.assume, own=True, begun=begun, most=most)
    if source is not None and source.kind in POSED:
        begun, asks = workload_of(graph, source.inputs["of"], whole), POSED[source.kind](source.settings)
        before = PosedWorkload(whole.config, whole.sample, whole.assume, own=True, begun=begun, asks=asks)
    if source is not None and source.kind == "openings":
        begun = workload_of(graph, source.inputs["of"], whole)
        before = OpenedWorkload(whole.config, whole.sample, whole.assume, own=True, begun=begun)
    if step.kind == "select" and isinstance(step.settings, KeptSamples):
        like = workload_of(graph, step.inputs["like"], whole).traces if "like" in step.inputs else None
        return KeptWorkload(
            before.config, before.sample, before.assume, before.own, begun=before, wanted=step.settings, like=like
        )
    if step.kind == "groups":
        config = before.config.model_copy(update=dict(step.sections))
        return GroupedWorkload(config, before.sample, before.assume, before.own, begun=before, settings=step.settings)
    selections = before.selections + (step.kind == "select")
    return replace(before, config=before.config.model_copy(update=dict(step.sections)), selections=selections)
