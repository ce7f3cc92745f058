"""A graph of steps: what each makes, from what, and whether they fit. No Ray here, so mistakes are told before it starts."""

from __future__ import annotations

import graphlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from redi_ray.errors import UserError, listed
from redi_ray.pipeline.kinds import KINDS
from redi_ray.pipeline.rounds import round_of
from redi_ray.stages.run import folder_of

MISFITS = "the steps do not fit together"


class GraphError(UserError):
    """Steps that do not fit together; the message names each and what would fit."""


@dataclass(frozen=True)
class Wording:
    """How the config says what a step takes, where the step says it otherwise."""

    words: Mapping[str, str]
    """Input -> the config's word for it."""
    takes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Input -> the types that the config may name there, where they are more than the kind takes."""
    step: str = ""
    """The step that the config asks for, where this one is made on the way to it."""
    kind: str = ""
    """Its kind."""


@dataclass(frozen=True)
class Step:
    """One step: a kind of work under a name, on outputs of other steps."""

    name: str
    kind: str
    """A key of `redi_ray.pipeline.kinds.KINDS`."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """What the kind calls it -> the step that makes it."""
    sections: Mapping[str, Any] = field(default_factory=dict)
    """Sections of the config that are replaced for this step."""
    settings: Any = None
    """The kind's own."""
    own: bool = False
    """Whether its outputs lie in folders of their own, as those of named steps do."""
    wording: Wording = Wording({})
    """For messages."""

    @property
    def gives(self) -> str:
        """The type of its output."""
        return KINDS[self.kind].gives

    @property
    def stage(self) -> str:
        """Where its output lies in a run's folder."""
        return self._folder(KINDS[self.kind].stage.format(name=self.name))

    @property
    def parts(self) -> dict[str, str | None]:
        """The stages that it makes on the way; see `Kind.parts`."""
        return {self._folder(stage): role for stage, role in KINDS[self.kind].parts.items()}

    def _folder(self, stage: str) -> str:
        return folder_of(stage, self.name if self.own else "")


class Graph:
    """Steps by name, in an order in which each can run. Raises GraphError, which lists every finding."""

    def __init__(self, steps: Iterable[Step], left_out: Collection[str] = ()) -> None:
        """left_out: steps that a mistake of their own, which is told elsewhere, keeps out; who takes them is not blamed."""
        self._left_out = left_out
        self.steps: dict[str, Step] = {}
        twice = [step for step in steps if self.steps.setdefault(step.name, step) is not step]
        found = [
            f"{step.name}: two steps have this name, {_told(self.steps[step.name])} and {_told(step)}" for step in twice
        ]
        found += [line for step in self.steps.values() for line in self._misfits(step)]
        found += self._circles()
        if found:
            raise listed(GraphError, MISFITS, found)
        self.steps = {name: self.steps[name] for name in self._order()}

    def __getitem__(self, name: str) -> Step:
        if name not in self.steps:
            near = get_close_matches(name, self.steps, 1)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise GraphError(f"no step named {name}{meant}; there are {', '.join(self.steps)}")
        return self.steps[name]

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps.values())

    def needed_for(self, names: Iterable[str]) -> list[Step]:
        """These steps and all that they come from, in order."""
        wanted, left = set[str](), [self[name].name for name in names]
        while left:
            name = left.pop()
            if name not in wanted:
                wanted.add(name)
                left += self.steps[name].inputs.values()
        return [step for step in self if step.name in wanted]

    def giving(self, kind_of_output: str) -> list[str]:
        """Names of the steps with an output of this type."""
        return [step.name for step in self if step.gives == kind_of_output]

    def _misfits(self, step: Step) -> Iterator[str]:
        said = step.wording
        for role, name in step.inputs.items():
            wanted = KINDS[step.kind].wants(role)
            if name in self._left_out or (name in self.steps and self.steps[name].gives in wanted):
                continue
            types = said.takes.get(role, wanted)
            fitting = self._fitting(step, types)
            fits = f"what would fit: {', '.join(fitting) or 'nothing'}"
            here = f"{said.step or step.name}: `{said.words.get(role, role)}: {name}`"
            if name not in self.steps:
                near = get_close_matches(name, fitting, 1)
                yield f"{here} is no step{f'; did you mean {near[0]}?' if near else ''}; {fits}"
            else:
                kind = said.kind or step.kind
                yield f"{here} gives {self.steps[name].gives}, and {kind} takes {' or '.join(types)}; {fits}"

    def _fitting(self, step: Step, types: tuple[str, ...]) -> list[str]:
        """Steps with such an output that do not come from this one."""
        links, later = self._links(), {step.name}
        while more := {name for name, before in links.items() if before & later} - later:
            later |= more
        return [other.name for other in self.steps.values() if other.gives in types and other.name not in later]

    def _links(self) -> dict[str, set[str]]:
        return {name: {i for i in step.inputs.values() if i in self.steps} for name, step in self.steps.items()}

    def _circles(self) -> list[str]:
        try:
            graphlib.TopologicalSorter(self._links()).prepare()
        except graphlib.CycleError as error:
            circle = error.args[1][::-1]  # each before what it comes from
            mend = "use `repeat` for rounds"
            if any(round_of(name)[1] for name in circle):
                mend = "rounds hand on by `carry`, and what is made between two of them belongs to `repeat.steps`"
            return [f"{' <- '.join(circle)}: a step cannot come from its own output; {mend}"]
        return []

    def _order(self) -> list[str]:
        """As written where that works: a step stands behind what it comes from."""
        links, ordered = self._links(), dict[str, None]()

        def place(name: str) -> None:
            for other in self.steps:
                if other in links[name] and other not in ordered:
                    place(other)
            ordered[name] = None

        for name in self.steps:
            if name not in ordered:
                place(name)
        return list(ordered)


def _told(step: Step) -> str:
    made_for = f" that steps.{step.wording.step} needs" if step.wording.step else ""
    return f"one of kind {step.kind}{made_for}"
