"""Where a whole run stands: whether a driver is at work, how the last one ended, and how each step stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from redi_ray.errors import EXIT_PREEMPTED
from redi_ray.pipeline.states import State
from redi_ray.report.notes import standings
from redi_ray.report.runs import RunRecord
from redi_ray.store.ending import Ending, read_ending
from redi_ray.store.lock import describe, driver_of, owner_of

RunState = Literal["running", "finished", "failed", "cut off", "partly run", "not run", "unclear"]
"""`cut off`: a step has begun, and no driver is at work, nor has one ended by an error; `partly run`: some steps are finished,
and none has begun that is not; `unclear`: the config is of another version, so what belongs to the run is not known."""


@dataclass(frozen=True)
class Standing:
    """Of a run."""

    state: RunState
    driver: str
    """Who is at work, in words; empty where nobody is."""
    since: float | None
    """When that driver began, in seconds since 1970."""
    ending: Ending | None
    """How the last command ended, where that was not well."""
    steps: Sequence[State]
    """Empty where they cannot be told."""

    @property
    def finished(self) -> int:
        """Steps that are."""
        return sum(step.standing == "finished" for step in self.steps)

    @property
    def stale(self) -> int:
        """Steps that were made, and would be made again by a command of today."""
        return sum(step.standing == "stale" for step in self.steps)


def standing(run: RunRecord, of_steps: Callable[[RunRecord], Sequence[State] | None] = standings) -> Standing:
    """Told from the run's folder. of_steps: what tells how each step stands. What cannot be told is a note of the run.

    Raises StorageError.
    """
    steps = of_steps(run) or []
    seen, ending = driver_of(run.uri), read_ending(run.uri)
    if seen is None:
        return Standing(_at_rest(steps, ending), "", None, ending, steps)
    owner = owner_of(seen)
    return Standing("running", describe(seen), owner.started if owner else None, None, steps)


def _at_rest(steps: Sequence[State], ending: Ending | None) -> RunState:
    """Of a run that no driver is at work on."""
    found = {step.standing for step in steps}
    if ending is not None and found != {"finished"}:
        return "cut off" if ending.exit_code == EXIT_PREEMPTED else "failed"
    if not steps:
        return "unclear"
    if found <= {"finished", "stale"}:  # stale by what lies elsewhere: by a changed config a command would have begun
        return "finished"
    return "cut off" if "cut off" in found else "partly run" if found & {"finished", "stale"} else "not run"
