"""Where a training stands, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from redi_ray.errors import UserError

Status = Literal["running", "done", "stopped_by_guard", "rolled_back", "nonfinite", "preempted"]


class NonfiniteError(UserError):
    """A training came to a step without a finite loss or gradient; its weights are no result."""


@dataclass
class LoopState:
    """The loop's own state, part of every checkpoint."""

    step: int = 0
    """Steps done."""
    skipped: int = 0
    """Steps whose update was not applied."""
    skipped_in_a_row: int = 0
    guard: dict[str, Any] = field(default_factory=dict)
    trips: int = 0
    """Steps at which the guard saw a collapse."""
    first_trip: str = ""
    """What it saw first, and when."""
    ended: Literal["", "stopped_by_guard", "rolled_back"] = ""
    """How the guard ended the run at this step: a run resumed here has nothing left to train."""
    reason: str = ""
    """What the guard saw then."""
    best: dict[str, Any] = field(default_factory=dict)
    extra: bool = False
    """Whether this checkpoint was only asked for, so that it may not be the best: an interruption would change the result."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Of the newest step."""
    world_sizes: list[list[int]] = field(default_factory=list)
    """`[first step, ranks]` of each stretch of the steps behind the weights that had as many ranks throughout."""

    def on_ranks(self, ranks: int) -> None:
        """From the next step on there are so many."""
        behind = [stretch for stretch in self.world_sizes if stretch[0] < self.step]
        self.world_sizes = behind if behind and behind[-1][1] == ranks else [*behind, [self.step, ranks]]


@dataclass(frozen=True)
class TrainResult:
    """How a run ended; the policy holds the final weights.

    Status `done`: all steps, or fewer where patience ran out. `stopped_by_guard`: weights at the stop (of these two with
    `export: best`: weights of the best checkpoint). `rolled_back`: weights of the newest checkpoint from before the collapse
    began. `nonfinite`: weights before the step that could not be applied, which are no result. `preempted`: asked to stop.
    """

    steps: int
    """Steps behind the final weights."""
    status: Status
    total_steps: int
    skipped_steps: int
    metrics: dict[str, float]
    """Of the last step that ran."""
    reason: str = ""
    """What the guard saw, what was not finite, or how long there was nothing better."""
    trips: int = 0
    """Steps at which the guard saw a collapse; with `warn` the run went on."""
    first_trip: str = ""
    world_sizes: tuple[tuple[int, int], ...] = ()
    """`(first step, ranks)`: how many ranks took which of the steps behind the final weights."""
