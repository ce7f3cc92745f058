"""The best value so far among a run's checkpoints, and when to stop waiting for a better one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redi_ray.config.training import TrainSettings


@dataclass
class EarlyStop:
    """Watches `settings.keep_best` at the regular checkpoints. Its `state_dict` is part of every checkpoint."""

    settings: TrainSettings
    value: float = -math.inf
    step: int | None = None
    """Steps behind the best value; None before the first."""

    def observe(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take in the metrics after `step` steps. Where there is no regular checkpoint, or no value, nothing changes."""
        name, every = self.settings.keep_best, self.settings.checkpoint_every
        value = math.nan if name is None or step % every else metrics.get(name, math.nan)
        if math.isfinite(value) and value > self.value:
            self.value, self.step = value, step

    def reason(self, step: int) -> str:
        """Why the run ends after `step` steps; empty if it goes on."""
        patience, name = self.settings.patience, self.settings.keep_best
        if patience is None or self.step is None or step - self.step < patience:
            return ""
        return f"no better {name} than {self.value:.4g} (at step {self.step}) for {step - self.step} steps"

    def state_dict(self) -> dict[str, Any]:
        return {} if self.step is None else {"value": self.value, "step": self.step}  # -inf is no JSON
