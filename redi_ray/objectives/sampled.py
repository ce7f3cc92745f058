"""Objectives that weigh a sample by what the policy has become since: by its ratio to the model that sampled it.

The sampler's log-probs are a token column, `sampler_logps`. A sample is right where its side is +1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from redi_ray.config.rollout_objectives import NftObjective, PpoClipObjective, ToprObjective
from redi_ray.objectives.base import Metrics, Scores, Tokens, detached
from redi_ray.objectives.dph import LARGEST_LOG_RATIO
from redi_ray.objectives.needs import SAMPLER
from redi_ray.objectives.rewards import advantages_of, group_mean, rewards_of

LARGEST_NFT_LOG_RATIO = 10.0
"""Log-ratios (nats) are cut there, as in NFT's code."""


def topr(scores: Scores, settings: ToprObjective, _progress: float) -> tuple[Tensor, Metrics]:
    """TOPR (arXiv 2503.14286, eq. 8): `L = mean_u[ -s ]` over right units, `+ sg[clip(pi / mu, 0, 1)] s` over wrong ones.

    s = log pi(y|x), pi / mu the ratio of whole units to the sampler, sg: no gradient. Denominator: the units of the global
    batch. Rewards are +1 and -1, by the sides. With `sequence_mean`, s and the log-ratio are divided by the scored tokens.
    Where the policy is the sampler it is REDI with alpha = 1. An extract of the paper with this equation and its pseudo-code
    was read, and two public implementations: one takes the ratio of whole sequences, one its geometric mean over tokens.
    """
    s, x = scores.logps, (scores.logps - scores.sums[SAMPLER]).detach()
    if settings.normalization == "sequence_mean":
        s, x = s / scores.lengths, x / scores.lengths
    right, taper = scores.sides > 0, torch.exp(x.clamp(max=0))
    loss = torch.where(right, -s, taper * s).mean()
    return loss, {"taper": detached(taper[~right])}


def nft(tokens: Tokens, settings: NftObjective, _progress: float) -> Tensor:
    """NFT (arXiv 2505.18116, eq. 10) on stored samples: with R = pi / pi_old of a token and q the problem's share of right ones,

        right   -omega log R / N
        wrong   -omega log max_v((1 - q R) / (1 - q), epsilon) / N       max_v(x, e) = x + sg[max(x, e) - x]

    max_v has the value of the maximum and the slope of x, so that wrong tokens whose ratio has risen are still pushed down.
    omega: `wrong_share` 1 - q (the paper's), `scaled` sqrt((1 - q) / q), `one`. Where the policy is the sampler the gradient is
    that of centred rewards 1 and 0 with the first, that of their advantages over the standard deviation with the second.
    N: scored tokens of the global batch. As in the code q is held between `least_rate` and 1 - `least_rate`, and the log-ratio
    below 10. Read: an extract of the paper, and its code (NVlabs/NFT, whose own divisor is 1000). Offline the samples are of
    one model once and for all; the paper samples anew every 16 steps.
    """
    assert tokens.per_unit is not None, "NFT was given tokens without pass rates"
    q, epsilon = tokens.per_unit, settings.epsilon
    x = tokens.log_ratios(SAMPLER).clamp(max=LARGEST_NFT_LOG_RATIO)
    wrong = (1 - q * torch.exp(x)) / (1 - q)
    held = wrong.detach().clamp(min=epsilon)
    log_wrong = torch.log(held) + (wrong - wrong.detach()) / held
    omega = {"wrong_share": 1 - q, "scaled": ((1 - q) / q).sqrt(), "one": torch.ones_like(q)}[settings.prompt_weight]
    terms = torch.where(tokens.sides > 0, -x, -log_wrong)
    return tokens.weights * omega * terms / tokens.num_tokens


def nft_rates(scores: Scores, settings: NftObjective) -> Tensor:
    """`[U]` the share of right ones among the units of each one's group; or of the samples over which its reward is an advantage,
    1 - q of a right one and -q of a wrong one."""
    right = (scores.sides > 0).to(scores.lengths)
    rate = right - rewards_of(scores) if settings.rate == "advantages" else group_mean(scores, right)
    return rate.clamp(settings.least_rate, 1 - settings.least_rate)


def ppo_clip(tokens: Tokens, settings: PpoClipObjective, _progress: float) -> Tensor:
    """PPO's clipped objective (arXiv 1707.06347) on stored samples, as DPH (2509.07430) has it on what it explores:
    `L = sum_t -min(A R, A clip(R, 1 - low, 1 + high)) / N`, for A < 0 at most `-dual A` (dual clip, 1912.09729).

    R = pi / pi_old of a token, A the advantage of its unit over the problem's samples, N the scored tokens of the global batch.
    Of stored samples every one is off the policy after the first step: what leaves the clip is not learnt from any more.
    """
    assert tokens.per_unit is not None, "PPO was given tokens without advantages"
    a, ratio = tokens.per_unit, torch.exp(tokens.log_ratios(SAMPLER).clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO))
    terms = torch.maximum(-a * ratio, -a * ratio.clamp(1 - settings.low, 1 + settings.high))
    terms = torch.where(a < 0, torch.minimum(terms, -a * settings.dual), terms)
    return tokens.weights * terms / tokens.num_tokens


def ppo_advantages(scores: Scores, settings: PpoClipObjective) -> Tensor:
    """`[U]`"""
    return advantages_of(scores, rewards_of(scores), settings.baseline)
