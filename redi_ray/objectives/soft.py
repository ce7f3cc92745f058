"""Distillation from what a teacher says of each token: its distribution, or its log-prob of the token that is there.

A divergence from the teacher's distribution (`redi_ray.objectives.divergences`) is taken in the head's kernel, which has the
student's (`redi_ray.modeling.soft_targets`). An objective says what the divergences of a unit's tokens count, `soft`: with w_t
the tokens' weights, the loss is `psi + sum_u soft_u sum_{t in u} w_t D_t`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from redi_ray.config.soft_objectives import (
    ForwardKlObjective,
    JsObjective,
    OnPolicyDistillationObjective,
    ReverseKlObjective,
    SoftRediObjective,
)
from redi_ray.objectives.base import Metrics, Scores, Tokens, detached
from redi_ray.objectives.dph import LARGEST_LOG_RATIO
from redi_ray.objectives.needs import SAMPLER, TEACHER
from redi_ray.objectives.redi import alpha_at

Distilled = ForwardKlObjective | ReverseKlObjective | JsObjective


def distilled(scores: Scores, settings: Distilled, _progress: float) -> tuple[Tensor, Metrics]:
    """Distillation (arXiv 1503.02531, 2306.08543, 2306.13649): `L = sum_t w_t D_t / N + nll_weight * SFT`, D one of
    `redi_ray.objectives.divergences` from the teacher at each scored token of the chosen sequences.

    token_mean:     N = scored tokens of the global batch
    sequence_mean:  each unit's own, then the mean over units

    This is the part that SFT has. With a teacher that is sure of each token the forward KL is SFT by itself.
    """
    return settings.nll_weight * -(scores.logps * distilled_weights(scores, settings)).sum(), {}


def distilled_weights(scores: Scores, settings: Distilled) -> Tensor:
    """`[U]` what the divergences of a unit's tokens count."""
    if settings.normalization == "token_mean":
        return torch.ones_like(scores.lengths) / scores.lengths.sum()
    return 1 / (scores.lengths * len(scores.lengths))


def soft_redi(scores: Scores, settings: SoftRediObjective, progress: float) -> tuple[Tensor, Metrics]:
    """REDI with soft positives: `L = mean_pairs[ sum_t D_t / |y_w| + alpha r_l - nll_weight r_w ]`, r = log pi(y|x) / |y|.

    Denominators: each side's own scored tokens, then the pairs of the global batch. Of REDI (arXiv 2505.24850) the positive term
    is a divergence from the teacher; with a teacher that is sure of each chosen token and the forward KL it is REDI. This is the
    part that reads log-probs.
    """
    alpha = alpha_at(settings.alpha, settings.schedule, progress)
    chosen, rejected = scores.pairs(scores.mean_logps())
    loss = (-settings.nll_weight * chosen + alpha * rejected).mean()
    return loss, {"alpha": loss.new_tensor(alpha), "negative_term": detached(rejected)}


def soft_redi_weights(scores: Scores, _settings: SoftRediObjective) -> Tensor:
    """`[U]` 0 on the rejected side."""
    return torch.where(scores.sides > 0, 1 / (scores.lengths * len(scores.chosen)), 0.0)


def on_policy_distillation(tokens: Tokens, settings: OnPolicyDistillationObjective, _progress: float) -> Tensor:
    """On-policy distillation, offline (arXiv 2604.13010): `L = -sum_t w_t A_t log pi_t / N` on the student's own samples, whose
    expected gradient is that of the reverse KL, where the policy still is what sampled.

        policy   A = log teacher - sg[log pi]
        sampler  A = log teacher - log pi_old, and in place of log pi the ratio R = pi / pi_old, clipped as PPO's (1707.06347):
                 -min(A R, A clip(R, 1 - clip, 1 + clip))

    N: scored tokens of the global batch, right ones and wrong ones alike. Of 2604.13010 an extract was read.
    """
    student = tokens.logps.detach() if settings.student == "policy" else tokens.columns[SAMPLER]
    a = tokens.columns[TEACHER] - student
    if settings.most is not None:
        a = a.clamp(-settings.most, settings.most)
    if settings.student == "policy":
        terms = -a * tokens.logps
    else:
        ratio = torch.exp(tokens.log_ratios(SAMPLER).clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO))
        terms = torch.maximum(-a * ratio, -a * ratio.clamp(1 - settings.clip, 1 + settings.clip))
    return tokens.weights * terms / tokens.num_tokens
