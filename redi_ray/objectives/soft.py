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
    """On-policy distillation, offline (arXiv 2604.13010), on the student's own samples; every term is one of a token:

        sampler  -min(A R, A clip(R, 1 - clip, 1 + clip)) / N     A = log teacher - log pi_old - b, R = pi / pi_old
        policy   -A log pi / N                                    A = log teacher - sg[log pi]

    Where the policy still is what sampled, the expected gradient of both is that of the reverse KL, token by token. b: the mean
    of the batch's log teacher - log pi_old, or 0. N: scored tokens of the global batch, right ones and wrong ones alike.

    Of the paper an extract was read, whose form is `policy`; on samples that are stored it came apart (in a built-in world
    KL(pi || teacher) rose from 2.0 to 7.8 nats a token, where `sampler` brought it to 1.7). The clipped ratio is PPO's
    (1707.06347).
    """
    assert tokens.per_unit is not None, "on-policy distillation was given tokens without a baseline"
    student = tokens.logps.detach() if settings.student == "policy" else tokens.columns[SAMPLER]
    a = tokens.columns[TEACHER] - student - tokens.per_unit
    if settings.most is not None:
        a = a.clamp(-settings.most, settings.most)
    if settings.student == "policy":
        terms = -a * tokens.logps
    else:
        ratio = torch.exp(tokens.log_ratios(SAMPLER).clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO))
        terms = torch.maximum(-a * ratio, -a * ratio.clamp(1 - settings.clip, 1 + settings.clip))
    return tokens.weights * terms / tokens.num_tokens


def on_policy_baseline(scores: Scores, settings: OnPolicyDistillationObjective) -> Tensor:
    """`[U]` what is taken from the advantages, the same of all."""
    if settings.student == "policy" or settings.baseline == "none":
        return torch.zeros_like(scores.lengths)
    weights = scores.lengths if scores.weights is None else scores.weights
    mean = (scores.sums[TEACHER] - scores.sums[SAMPLER]).sum() / weights.sum()
    return torch.full_like(scores.lengths, float(mean))
