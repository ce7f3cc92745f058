"""The same of what named steps make: sets that are imported, samples that are continued, kept or grouped."""

from __future__ import annotations

from dataclasses import dataclass, replace

from redi_ray.config.selection import DiverseProblems, KeptSamples, RandomProblems
from redi_ray.pipeline.asked import VARYING
from redi_ray.pipeline.graph import Graph, Step
from redi_ray.pipeline.rounds import written
from redi_ray.plan.grouped import GroupedWorkload, KeptWorkload, RandomWorkload
from redi_ray.plan.imported import ImportedSample
from redi_ray.plan.posed import POSED, SelfVerifiedWorkload, StatedWorkload
from redi_ray.plan.varied import SOURCES, VariedWorkload, problems_of, variants_of
from redi_ray.plan.workload import BegunWorkload, Side, Workload


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
class ContinuedWorkload(BegunWorkload):
    """Of what goes on from where wrong traces go wrong, each as from a problem of its own: from all of them, half-way."""

    most: int | None = None
    """Where a model goes on from behind every token: of so many of them."""

    @property
    def problems(self) -> float:
        wrong = self._of.traces * (1 - self._of.share("correct"))
        return wrong if self.most is None else min(wrong, self.most) * float(self._of.wrong.mean())

    @property
    def prompt(self) -> float:
        return self._of.prompt + float(self._of.wrong.mean()) / 2

    @property
    def _mean(self) -> float:
        return super()._mean / 2


@dataclass(frozen=True)
class OpenedWorkload(BegunWorkload):
    """Of problems that are the first turns of dialogues, one of each."""

    @property
    def problems(self) -> float:
        return self._of.positives

    @property
    def prompt(self) -> float:
        return self._of.prompt


def workload_of(graph: Graph, name: str, whole: Workload) -> Workload:
    """The traces, with or without verdicts, or the groups that a step makes. whole: of the config as it stands."""
    step = graph[name]
    if step.kind == "import":
        return ImportedWorkload(
            whole.config, whole.sample, whole.assume, imported=whole.sample.imported[written(step.name)]
        )
    if "of" in step.inputs:
        before = workload_of(graph, step.inputs["of"], whole)
    else:
        before = _of_problems(graph, step, replace(whole, own=step.own), whole)
    return _made(graph, step, before, whole)


def _of_problems(graph: Graph, step: Step, before: Workload, whole: Workload) -> Workload:
    """Of the problems that another step makes, where the step is about those."""
    source = graph.steps.get(step.inputs.get("problems", ""))
    if source is not None and source.kind in VARYING:
        varied = variants_of(graph, source, whole)
        return VariedWorkload(whole.config, whole.sample, whole.assume, own=True, varied=varied)
    if source is not None and source.own and source.kind in SOURCES:
        return VariedWorkload(
            whole.config, whole.sample, whole.assume, own=True, varied=problems_of(graph, source, whole)
        )
    if source is None or source.kind not in POSED.keys() | {"starts", "token_starts", "openings"}:
        return before
    begun, ours = workload_of(graph, source.inputs["of"], whole), (whole.config, whole.sample, whole.assume)
    if source.kind in POSED:
        made, added = POSED[source.kind]
        return made(*ours, own=True, begun=begun, asks=added(source.settings))
    if source.kind == "openings":
        return OpenedWorkload(*ours, own=True, begun=begun)
    most = source.settings.max_samples if source.kind == "token_starts" else None
    return ContinuedWorkload(*ours, own=True, begun=begun, most=most)


def _made(graph: Graph, step: Step, before: Workload, whole: Workload) -> Workload:
    """What a step makes of these."""
    settings, ours = step.settings, (before.config, before.sample, before.assume)
    like = workload_of(graph, step.inputs["like"], whole) if "like" in step.inputs else None
    if step.kind == "state":
        return StatedWorkload(*ours, begun=before, text=settings.text)
    if step.kind == "self_verify":
        paired = graph[step.inputs["of"]].settings.both_sides
        return SelfVerifiedWorkload(*ours, begun=before, settings=settings, paired=paired)
    if step.kind == "select" and isinstance(settings, KeptSamples):
        most = None if like is None else like.traces
        return KeptWorkload(*ours, before.own, begun=before, wanted=settings, like=most)
    if step.kind == "select" and isinstance(settings, RandomProblems | DiverseProblems):
        most = None if like is None else like.problems
        return RandomWorkload(*ours, before.own, begun=before, taken=settings, like=most)
    config = before.config.model_copy(update=dict(step.sections))
    if step.kind == "groups":
        return GroupedWorkload(config, before.sample, before.assume, before.own, begun=before, settings=settings)
    return replace(before, config=config, selections=before.selections + (step.kind == "select"))
