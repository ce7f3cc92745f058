"""What a scheduler may compare while a training goes on: a value after a step, or nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping

from redi_ray.config.training import TrainSettings
from redi_ray.search.sections import counts_by_best
from redi_ray.train.early_stop import EarlyStop


class RunningValue:
    """Follows one training of `total_steps` steps, and knows as it does where it will end."""

    def __init__(self, metric: str, settings: TrainSettings, total_steps: int) -> None:
        self.metric, self.total_steps = metric, total_steps
        self.by_best = counts_by_best(settings, metric)
        self.early_stop = EarlyStop(settings)

    def after(self, steps: int, metrics: Mapping[str, float | None]) -> float | None:
        """The value after `steps` steps: the metric's own, or where the best checkpoint is exported the best so far.

        None where it is not known, and where the training ends: it has its model yet to export, and must not be stopped.
        """
        known = {name: value for name, value in metrics.items() if value is not None}
        self.early_stop.observe(steps, known)
        if steps >= self.total_steps or self.early_stop.reason(steps):
            return None
        value = known.get(self.metric, math.nan)
        if self.by_best and math.isfinite(value):
            value = self.early_stop.value
        return value if math.isfinite(value) else None
