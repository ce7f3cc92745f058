"""Objectives on real-valued rewards, of one sample a problem or of several, linear in the log-probs.

They differ in what is subtracted from a reward. Everywhere the loss is the mean over the units of the global batch of
`-A s`, s = log pi(y|x) summed over a unit's scored tokens (`sum`) or divided by their number (`sequence_mean`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from redi_ray.config.rollout_objectives import AdvantageObjective, AsymreObjective
from redi_ray.objectives.base import Metrics, Scores, detached


def asymre(scores: Scores, settings: AsymreObjective, _progress: float) -> tuple[Tensor, Metrics]:
    """AsymRE (arXiv 2506.20520): `L = -mean_u (r_u - V) s_u`, off the policy, so that V is no mere variance reduction.

    V = `shift`, plus the mean reward of the unit's group with `group_mean`. Below the mean reward (`shift` < 0) the policy
    improves; above it it collapses. With rewards 1 and 0 on pairs and a constant V it is REDI with alpha = V / (1 - V).
    """
    advantages = rewards_of(scores) - settings.shift
    if settings.baseline == "group_mean":
        advantages = advantages - group_mean(scores, rewards_of(scores))
    return _weighted(scores, advantages, settings.normalization)


def advantage(scores: Scores, settings: AdvantageObjective, _progress: float) -> tuple[Tensor, Metrics]:
    """Log-likelihood weighted with the advantage over a problem's other samples: `L = -mean_u A_u s_u`.

    leave_one_out  A = r - mean of the group's other rewards (RLOO, arXiv 2402.14740); 0 for a unit without others
    group_mean     A = r - mean of the group's rewards
    group_scaled   the same over the group's standard deviation (AdvDistill, arXiv 2507.00054, after GRPO); 0 where that is 0
    none           A = r
    """
    advantages = advantages_of(scores, rewards_of(scores), settings.baseline)
    return _weighted(scores, advantages, settings.normalization)


def advantages_of(scores: Scores, rewards: Tensor, baseline: str) -> Tensor:
    """`rewards[U]` less what `baseline` takes away (see `advantage`), `[U]`."""
    centred = rewards - group_mean(scores, rewards)
    if baseline == "none":
        return rewards
    if baseline == "leave_one_out":
        size = scores.group_sums(torch.ones_like(rewards))
        return centred * size / (size - 1).clamp(min=1)
    if baseline == "group_scaled":
        deviation = group_mean(scores, centred.square()).sqrt()
        rounding = 8 * torch.finfo(rewards.dtype).eps  # by which the mean of equal rewards may differ from them
        same = deviation <= rounding * group_mean(scores, rewards.abs())
        return torch.where(same, 0.0, centred / deviation)
    return centred


def rewards_of(scores: Scores) -> Tensor:
    assert scores.rewards is not None, "an objective on rewards was given scores without any"
    return scores.rewards


def group_mean(scores: Scores, values: Tensor) -> Tensor:
    """`values[U]` -> `[U]`, for each unit the mean over all units of its group."""
    return scores.group_sums(values) / scores.group_sums(torch.ones_like(values))


def _weighted(scores: Scores, advantages: Tensor, normalization: str) -> tuple[Tensor, Metrics]:
    """The mean of `-advantages[U] s`."""
    s = scores.mean_logps() if normalization == "sequence_mean" else scores.logps
    metrics = {"reward": detached(rewards_of(scores)), "advantage_size": detached(advantages.abs())}
    return -(advantages * s).mean(), metrics
