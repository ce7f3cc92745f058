"""A step's divergences from a teacher's distributions: which tokens they are of, what they count, and what they come to."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from redi_ray.config.objectives import Objective
from redi_ray.config.soft_objectives import Outcomes
from redi_ray.modeling.soft_targets import SoftTargets
from redi_ray.objectives import OBJECTIVES
from redi_ray.objectives.divergences import Divergence
from redi_ray.train.bound import BoundObjective
from redi_ray.train.packs import PackTensors
from redi_ray.train.results import StepResult, sum_over_ranks


def divergence_of(objective: Objective) -> Divergence | None:
    """The one that an objective takes from a teacher's distributions, if it reads any."""
    return Divergence.of(objective) if isinstance(objective, Outcomes) else None


class SoftTerms:
    """Those of a step; of an objective that reads no distributions there are none."""

    def __init__(self, bound: BoundObjective, world_size: int, device: torch.device) -> None:
        weigh, self.how = OBJECTIVES[bound.settings.name].soft, divergence_of(bound.settings)
        assert (weigh is None) == (self.how is None), (
            f"{bound.settings.name}: what reads distributions says what they count"
        )
        self.world_size = world_size
        self.per_unit = None if weigh is None else weigh(bound.scores, bound.settings).to(device)
        self.sums = torch.zeros(3, dtype=torch.float64, device=device)
        """Of the tokens that count: what they add to the loss, their divergences, how many they are."""

    def of(self, tensors: PackTensors) -> SoftTargets | None:
        """Of a pack, to be handed to its fused pass."""
        if self.per_unit is None or self.how is None:
            return None
        assert tensors.soft is not None
        coefficients = tensors.weighted(self.per_unit[tensors.slots] * self.world_size)
        return SoftTargets(*tensors.soft, coefficients, self.how)

    def add(self, soft: SoftTargets | None) -> None:
        """What the pass has found."""
        if soft is not None:
            loss = (soft.coefficients * soft.values).sum() / self.world_size
            self.sums += torch.stack([loss, soft.values.sum(), (soft.coefficients != 0).sum()])

    def added_to(self, result: StepResult) -> StepResult:
        """The step with its divergences: `divergence` is their mean over tokens (nats). A collective call where there are any."""
        if self.per_unit is None:
            return result
        loss, total, tokens = sum_over_ranks(self.sums, self.world_size).tolist()
        metrics = result.metrics | {"divergence": total / max(tokens, 1.0)}
        return replace(result, loss=result.loss + loss, metrics=metrics, finite=result.finite and math.isfinite(loss))
