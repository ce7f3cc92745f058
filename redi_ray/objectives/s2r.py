"""S2R, offline: a clipped ratio to the reference for each sequence, or for each of its segments, weighted with its reward."""

from __future__ import annotations

import torch
from torch import Tensor

from redi_ray.config.rollout_objectives import S2rObjective
from redi_ray.objectives.base import Metrics, Scores, detached
from redi_ray.objectives.dph import LARGEST_LOG_RATIO
from redi_ray.objectives.rewards import rewards_of


def s2r(scores: Scores, settings: S2rObjective, _progress: float) -> tuple[Tensor, Metrics]:
    """S2R (arXiv 2502.12853), offline: `L = -mean_u min(A rho, A clip(rho, 1 - clip, 1 + clip))`, u over units.

        rho_u = exp(s_u)     s_u = log-ratio to the reference per scored token
        A_u   = r_u - kl s_u

    Outcome level: a unit is a sequence, r = +1 where its last answer is right, else -1. Process level: a unit is a segment
    (an answer or a verification, `units: spans`), r = +-1 by whether it is right or true, less the baseline of its place and
    the problem's accuracy (`span_baseline` of a step `groups`). Denominators: a unit's scored tokens, then the units of the
    global batch.

    A carries no gradient, as an advantage does. In the paper's code that is so at process level only; `kl_gradient` is its
    form at outcome level, where the slope in s at the reference is -(r - kl) instead of -r. The code, not the text, was read
    (NineAbyss/S2R). It differs in one thing more: its segments of openers ("Wait, let me recheck") have reward 0 and count in
    the sum and not in its divisor; here what is not to count is not scored. s is cut at +-20 nats, which the code does not do.
    """
    s = (scores.log_ratios() / scores.lengths).clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)
    kl = s if settings.kl_gradient else s.detach()
    advantages, rho = rewards_of(scores) - settings.kl * kl, torch.exp(s)
    clipped = rho.clamp(1 - settings.clip, 1 + settings.clip)
    terms = torch.minimum(advantages * rho, advantages * clipped)
    return -terms.mean(), {
        "reward": detached(rewards_of(scores)),
        "advantage": detached(advantages),
        "clipped": detached((rho != clipped).to(rho)),
    }
