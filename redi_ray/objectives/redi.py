"""REDI: the reference-free loss with an asymmetrically weighted negative term."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from redi_ray.config.objectives import RediGroupsObjective, RediObjective
from redi_ray.config.schedules import AlphaSchedule
from redi_ray.objectives.base import Metrics, Scores, detached


def alpha_at(alpha: float, schedule: AlphaSchedule, progress: float) -> float:
    """Negative weight at `progress` in [0, 1), the share of the run's steps that are done.

    With x = min(progress / until, 1): linear `start + (alpha - start) x`, cosine the same with `(1 - cos(pi x)) / 2`
    for x, step `start` before `until` and `alpha` from there on.
    """
    if schedule.kind == "constant":
        return alpha
    x = min(progress / schedule.until, 1.0)
    if schedule.kind == "cosine":
        x = (1 - math.cos(math.pi * x)) / 2
    elif schedule.kind == "step":
        x = math.floor(x)
    return schedule.start + (alpha - schedule.start) * x


def redi(scores: Scores, settings: RediObjective, progress: float) -> tuple[Tensor, Metrics]:
    """REDI (arXiv 2505.24850): `L = mean_pairs[ -r_w + alpha r_l ]`, r = log pi(y|x) / |y|.

    Denominators: each side's own scored tokens, then the pairs of the global batch. alpha = 0 is length-normalised SFT
    on the chosen side, alpha = 1 the symmetric loss. With `exp_gamma` = g the negative term is `alpha exp(g r_l) r_l`,
    not detached (from the paper's code, not its text); since r_l <= 0 it stays above `-alpha / (e g)`.
    """
    alpha = alpha_at(settings.alpha, settings.schedule, progress)
    chosen, rejected = scores.pairs(scores.mean_logps())
    negative = rejected if settings.exp_gamma is None else torch.exp(settings.exp_gamma * rejected) * rejected
    loss = (-chosen + alpha * negative).mean()
    return loss, {"alpha": loss.new_tensor(alpha), "negative_term": detached(negative)}


def redi_groups(scores: Scores, settings: RediGroupsObjective, progress: float) -> tuple[Tensor, Metrics]:
    """REDI on all samples of a problem: `L = mean_groups[ -mean_+ r + alpha mean_- r ]`, r = log pi(y|x) / |y|.

    Denominators: each unit's own scored tokens, then the units of the group on its side, then the groups of the global
    batch. A side that a group does not have adds nothing. Groups of one positive and one negative are REDI's pairs; several
    negatives share the weight that the one of a pair has. It is derived from REDI (arXiv 2505.24850), not in it.
    """
    alpha, r = alpha_at(settings.alpha, settings.schedule, progress), scores.mean_logps()
    negative = r if settings.exp_gamma is None else torch.exp(settings.exp_gamma * r) * r
    right = (scores.sides > 0).to(r)
    share = torch.where(right > 0, scores.group_sums(right), scores.group_sums(1 - right))
    groups = len(torch.unique(scores.group))
    loss = (torch.where(right > 0, -r, alpha * negative) / share).sum() / groups
    return loss, {"alpha": loss.new_tensor(alpha), "negative_term": detached(negative[right == 0])}
