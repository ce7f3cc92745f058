"""Objectives on values: a scalar head says v_t = w . h_t at each token, and the loss is one of these numbers per unit.

They see the same `Scores` as any other: a unit's score is the sum of its scored tokens' values times their weights. Where a loss
reads the last token of a unit, that token alone weighs (`at_last` in `redi_ray.objectives.OBJECTIVES`; the data say so), and the
score is its value. Everywhere the loss is a mean over the global batch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from redi_ray.config.reward_objectives import (
    BradleyTerryObjective,
    OrealRmObjective,
    OutcomeBceObjective,
    StepBceObjective,
    StepMseObjective,
)
from redi_ray.objectives.base import Metrics, Scores, detached
from redi_ray.objectives.rewards import rewards_of


def bradley_terry(scores: Scores, settings: BradleyTerryObjective, _progress: float) -> tuple[Tensor, Metrics]:
    """Bradley-Terry (as in arXiv 2203.02155): `L = mean_pairs[ -log sigmoid(v_w - v_l - margin) + centre (v_w + v_l)^2 ]`.

    At values of 0 and no margin it is log 2. Denominator: pairs of the global batch.
    """
    chosen, rejected = scores.pairs(scores.logps)
    loss = -logsigmoid(chosen - rejected - settings.margin) + settings.centre * (chosen + rejected).square()
    return loss.mean(), {}


def outcome_bce(scores: Scores, _settings: OutcomeBceObjective, _progress: float) -> tuple[Tensor, Metrics]:
    """Outcome reward model (the verifier of arXiv 2110.14168, at the last token): `L = mean_u BCE(sigmoid(v_u), side_u > 0)`."""
    return by_side(scores, scores.logps)


def oreal_rm(scores: Scores, _settings: OrealRmObjective, _progress: float) -> tuple[Tensor, Metrics]:
    """OREAL's token reward model (arXiv 2502.06781): `L = mean_u BCE(sigmoid(mean_t v_t), side_u > 0)`, t over scored tokens."""
    return by_side(scores, scores.mean_logps())


def step_bce(scores: Scores, settings: StepBceObjective, _progress: float) -> tuple[Tensor, Metrics]:
    """Process reward model (as Math-Shepherd's, arXiv 2312.08935): `L = mean_u BCE(sigmoid(v_u), r_u)`, a unit being a step.

    r_u in [0, 1] is a label (hard estimation, or a human's) or the share of right continuations (soft estimation).
    """
    rewards = rewards_of(scores)
    loss = averaged(scores, cross_entropy(scores.logps, rewards), settings.normalization)
    return loss, {"accuracy": agreement(scores.logps > 0, rewards > 0.5)}


def step_mse(scores: Scores, settings: StepMseObjective, _progress: float) -> tuple[Tensor, Metrics]:
    """The same by squares (as ReasonFlux-PRM's, arXiv 2506.18896): `L = mean_u (v_u - r_u)^2`."""
    rewards = rewards_of(scores)
    loss = averaged(scores, (scores.logps - rewards).square(), settings.normalization)
    return loss, {"accuracy": agreement(scores.logps > 0.5, rewards > 0.5)}


def by_side(scores: Scores, values: Tensor) -> tuple[Tensor, Metrics]:
    right = scores.sides > 0
    loss = cross_entropy(values, right.to(values.dtype)).mean()
    return loss, {"accuracy": agreement(values > 0, right)}


def cross_entropy(values: Tensor, targets: Tensor) -> Tensor:
    """`-y log sigmoid(v) - (1 - y) log sigmoid(-v)`, `[U]`."""
    return softplus(values) - targets * values


def agreement(said: Tensor, right: Tensor) -> Tensor:
    """Share of the units on whose side of the middle the value is."""
    return detached((said == right).double())


def averaged(scores: Scores, terms: Tensor, normalization: str) -> Tensor:
    """The mean of `terms[U]`, over all units, or over those of a sequence and then over sequences."""
    if normalization == "unit_mean":
        return terms.mean()
    sizes = torch.bincount(scores.sequence)
    return (terms / sizes[scores.sequence]).sum() / int((sizes > 0).sum())
