"""What a kind of step is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from redi_ray.cluster.capacity import Demand
from redi_ray.stages.run import Run
from redi_ray.store.manifests import Manifest, Stage

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step

Places = Mapping[str, Manifest | Stage]
"""Input -> its output, or only where that will lie."""
Outputs = Mapping[str, Manifest]

MANY = "*"
"""Stands in `takes` for any number of inputs under names of their own."""


@dataclass(frozen=True)
class Kind:
    """A kind of step: what it takes and gives, where its output lies, and how that is made."""

    name: str
    takes: Mapping[str, tuple[str, ...]]
    """Input -> the types that fit."""
    gives: str
    """The type of its output: problems, starts, traces, verified, column, groups, model or scores."""
    stage: str
    """Where its output lies in a run's folder; `{name}` is the step's."""
    place: Callable[[Run, Step, Places], Stage | None]
    """Where the output lies, by its key; nothing is made. None while an input has to be there to know."""
    make: Callable[[Run, Step, Outputs], Manifest]
    """Make the output, or find it done."""
    room: Callable[[Run, Step], Sequence[Demand]] = lambda run, step: ()
    """What it asks of Ray at a time, beside small tasks."""
    tables: tuple[str, ...] = ()
    """Tables of its output with rows to look at, the one that says most first."""
    parts: Mapping[str, str | None] = field(default_factory=dict)
    """Stages that it makes on the way -> the input of the output that each is, None if another step may have made it."""

    def wants(self, role: str) -> tuple[str, ...]:
        """The types that fit an input."""
        return self.takes.get(role) or self.takes[MANY]
