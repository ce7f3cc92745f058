"""The collapse guard: it tells a run that collapses from one whose log-probs merely decline.

In REDI's collapse (arXiv 2505.24850) the log-probs of chosen *and* rejected traces plunge, the update norm surges, and
accuracy falls. In a good run both log-probs fall too, only slowly. So these signs must come together, each over the last
`window` applied steps:

    plunge    the fitted slope of both log-probs, times the window, is at or below -chosen_drop (nats per token)
    surge     the median of update_norm / learning_rate, or that of grad_norm, is at least norm_surge times its early median
    fall      the newest development accuracy is accuracy_drop below the best one before it; where a probe measures it

Plunge and surge together trip the guard, when they are there at PERSISTENCE of the last window / 2 steps: one odd batch is
not a collapse. Where accuracies are given, the accuracy is the better witness and takes the surge's place. A plunge then
is no more than a suspicion: either the accuracy has fallen already, or the guard waits for the next one, which confirms
or clears it. (A run that collapses from its first steps shows no surge for long, since its early level is that of the
collapse.)

The gradient's norm counts as well because Adam divides a surge away that grows no faster than its second moment: in runs
of the built-in world that collapsed (450 steps; alpha 1, learning rates 3e-4 and 1e-3, accuracy to a quarter and to 0)
the update norm per learning rate stayed below its early level, while gradients grew 1.5 to 7 times and log-probs fell by
0.3 to 2.6 in 20 steps. The defaults tripped on both, at steps 113 and 49, and on none of four runs that merely declined.
Dividing by the learning rate takes the schedule out. The early median is taken over the first window after Adam's moments
have warmed up.

A model may also lose what it can do without a plunge (in the same world, alpha 1 at learning rate 1e-4: accuracy from 0.98
to 0.63 in 140 steps, and the guard was silent). So an accuracy that is accuracy_collapse below its best at two measurements
in a row trips the guard alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from redi_ray.config.training import CollapseGuard, TrainSettings

SETTLING_STEPS = 10
"""Steps left out of the early median: about 1 / (1 - beta1) of Adam's first moment."""


PERSISTENCE = 3
LOW_MEASUREMENTS = 2
"""Accuracies in a row that must be far below the best one; a single one may be a dip that mends itself."""
TINY = 1e-12


def reach(settings: TrainSettings) -> int:
    """How many steps before the guard trips the collapse may have begun; a rollback goes further back than that."""
    window, probe = settings.guard.window, settings.probe
    return window + window // 2 + (LOW_MEASUREMENTS * probe.every if probe else 0)


@dataclass
class GuardState:
    """What the guard remembers; it is part of every checkpoint, so a resumed run judges as an undisturbed one."""

    seen: int = 0
    chosen: list[float] = field(default_factory=list)
    rejected: list[float] = field(default_factory=list)
    updates: list[float] = field(default_factory=list)
    """Update norm per unit of learning rate."""
    gradients: list[float] = field(default_factory=list)
    early_updates: list[float] = field(default_factory=list)
    early_gradients: list[float] = field(default_factory=list)
    signs: list[bool] = field(default_factory=list)
    """Whether a plunge (and a surge, without accuracies) was there, for the newest steps."""
    suspicion: str | None = None
    """What they said, while the accuracy has yet to confirm it."""
    best_accuracy: float | None = None
    """Before the newest one."""
    accuracy: float | None = None
    low: int = 0
    """Newest accuracies in a row that were far below the best."""


class Guard:
    """`observe` every applied step; it returns what it saw when a collapse is under way, else None."""

    def __init__(self, settings: CollapseGuard, state: Mapping[str, Any] | None = None) -> None:
        self.settings = settings
        self.state = GuardState(**state) if state else GuardState()

    def state_dict(self) -> dict[str, Any]:
        return asdict(self.state)

    def observe(self, metrics: Mapping[str, float]) -> str | None:
        """Take in one applied step's metrics: chosen_logp, rejected_logp, update_norm, grad_norm,
        learning_rate, and dev_accuracy where it was measured.

        Steps without a rejected side (SFT, or an unpaired batch of one kind) are passed over.
        """
        state, window = self.state, self.settings.window
        measured = metrics.get("dev_accuracy")
        if measured is not None:
            known = [a for a in (state.best_accuracy, state.accuracy) if a is not None]
            state.best_accuracy, state.accuracy = max(known, default=None), measured
            far_below = (
                state.best_accuracy is not None and measured < state.best_accuracy - self.settings.accuracy_collapse
            )
            state.low = state.low + 1 if far_below else 0
        chosen, rejected = (metrics.get(name, math.nan) for name in ("chosen_logp", "rejected_logp"))
        if math.isnan(chosen) or math.isnan(rejected) or metrics["learning_rate"] <= 0:
            return None
        update, gradient = metrics["update_norm"] / metrics["learning_rate"], metrics["grad_norm"]
        state.seen += 1
        if SETTLING_STEPS < state.seen <= SETTLING_STEPS + window:
            state.early_updates.append(update)
            state.early_gradients.append(gradient)
        recent = (
            (state.chosen, chosen),
            (state.rejected, rejected),
            (state.updates, update),
            (state.gradients, gradient),
        )
        for values, value in recent:
            values.append(value)
            del values[:-window]
        found = self._signs()
        state.signs.append(found is not None)
        del state.signs[: -max(PERSISTENCE, window // 2)]
        if found is not None and sum(state.signs) >= PERSISTENCE:
            state.suspicion = found
        return self._conclude(newly_measured=measured is not None)

    def _conclude(self, newly_measured: bool) -> str | None:
        """What the accuracies say alone, or the suspicion, if there is one and the newest accuracy confirms it; a suspicion is
        dropped once an accuracy contradicts it."""
        state, suspicion = self.state, self.state.suspicion
        if state.low >= LOW_MEASUREMENTS and newly_measured:
            return f"collapse: development accuracy {state.best_accuracy:.3f} -> {state.accuracy:.3f}, {state.low} times in a row"
        if suspicion is None:
            return None
        if state.accuracy is None:
            state.suspicion = None
            return suspicion
        if state.best_accuracy is None:
            return None
        if state.accuracy < state.best_accuracy - self.settings.accuracy_drop:
            state.suspicion = None
            return f"{suspicion}, development accuracy {state.best_accuracy:.3f} -> {state.accuracy:.3f}"
        if newly_measured:
            state.suspicion = None
        return None

    def _signs(self) -> str | None:
        state, settings = self.state, self.settings
        if state.seen < SETTLING_STEPS + settings.window:
            return None
        chosen, rejected = (slope(values) * settings.window for values in (state.chosen, state.rejected))
        update = median(state.updates) / max(median(state.early_updates), TINY)
        gradient = median(state.gradients) / max(median(state.early_gradients), TINY)
        plunge = max(chosen, rejected) <= -settings.chosen_drop
        surge = max(update, gradient) >= settings.norm_surge
        if not plunge or not (surge or state.accuracy is not None):
            return None
        return (
            f"collapse: over {settings.window} steps the log-prob per token moved by {chosen:+.2f} (chosen) and "
            f"{rejected:+.2f} (rejected); update norm {update:.1f}, gradient norm {gradient:.1f} times the early "
            "level"
        )


def slope(values: Sequence[float]) -> float:
    """Least-squares slope of `values` per position.

    Example: [1, 3, 5] -> 2.
    """
    centre = (len(values) - 1) / 2
    spread = sum((i - centre) ** 2 for i in range(len(values)))
    return sum((i - centre) * value for i, value in enumerate(values)) / spread
