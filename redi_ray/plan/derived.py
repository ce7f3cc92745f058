"""The same of what named steps make: sets that are imported, samples that are continued, kept or grouped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from redi_ray.config.selection import KeptSamples, RandomProblems
from redi_ray.config.worlds import BuiltInSource
from redi_ray.pipeline.asked import VARYING
from redi_ray.pipeline.graph import Graph, Step
from redi_ray.pipeline.rounds import written
from redi_ray.plan.grouped import GroupedWorkload, KeptWorkload, RandomWorkload
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
class VariedWorkload(Workload):
    """Of variants of problems, which are taken to be as long as these, and as often solved."""

    varied: float = 0.0
    """How many there are."""

    @property
    def problems(self) -> float:
        return self.varied


def variants_of(graph: Graph, step: Step, whole: Workload) -> float:
    """Problems that a step which makes variants gives at the most; what is imported is not counted before it is read, and taken
    for as many as there are problems."""
    settings, source = step.settings, graph.steps.get(step.inputs.get("problems", ""))
    world = whole.config.problems.source
    if settings.part != "problems" and isinstance(world, BuiltInSource):
        before: float = world.num_test if settings.part == "test" else world.num_dev
    elif settings.part == "dev":
        before = whole.problems * whole.config.problems.dev.share
    else:
        before = whole.problems if source is None or source.kind not in VARYING else variants_of(graph, source, whole)
    return before * max(1, len(settings.rules) + settings.originals)


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
    if source is not None and source.kind in VARYING:
        varied = variants_of(graph, source, whole)
        before = VariedWorkload(whole.config, whole.sample, whole.assume, own=True, varied=varied)
    if source is not None and source.kind == "openings":
        begun = workload_of(graph, source.inputs["of"], whole)
        before = OpenedWorkload(whole.config, whole.sample, whole.assume, own=True, begun=begun)
    if step.kind == "select" and isinstance(step.settings, KeptSamples):
        like = workload_of(graph, step.inputs["like"], whole).traces if "like" in step.inputs else None
        return KeptWorkload(
            before.config, before.sample, before.assume, before.own, begun=before, wanted=step.settings, like=like
        )
    if step.kind == "select" and isinstance(step.settings, RandomProblems):
        like = workload_of(graph, step.inputs["like"], whole).problems if "like" in step.inputs else None
        return RandomWorkload(
            before.config, before.sample, before.assume, before.own, begun=before, taken=step.settings, like=like
        )
    if step.kind == "groups":
        config = before.config.model_copy(update=dict(step.sections))
        return GroupedWorkload(config, before.sample, before.assume, before.own, begun=before, settings=step.settings)
    selections = before.selections + (step.kind == "select")
    return replace(before, config=before.config.model_copy(update=dict(step.sections)), selections=selections)
