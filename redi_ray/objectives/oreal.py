"""OREAL, offline: right samples are imitated, wrong ones pushed down by their ratio to the sampler, and a KL holds both."""

from __future__ import annotations

import torch
from torch import Tensor

from redi_ray.config.rollout_objectives import OrealObjective
from redi_ray.objectives.base import Scores, Tokens
from redi_ray.objectives.dph import LARGEST_LOG_RATIO
from redi_ray.objectives.needs import REWARD_MEAN, SAMPLER
from redi_ray.objectives.rewards import advantages_of, rewards_of


def oreal(tokens: Tokens, settings: OrealObjective, _progress: float) -> Tensor:
    """OREAL (arXiv 2502.06781), offline; every term is one of a token t:

        right   A+ omega+ (-l) / N+
        wrong   negative |A-| omega- e^(l - l_old) / N-
        both    kl (e^(ref - l) - (ref - l) - 1) / N

    N+, N-, N: scored tokens of the right, the wrong and all sequences of the global batch. A is the leave-one-out advantage of
    rewards +1 and -1, which are the sides: 2 (1 - p) K / (K - 1) and -2 p K / (K - 1) with p of a problem's K samples right;
    K and p are those of the group, or with `baseline: none` of all samples, whose advantages the members' rewards then are.
    l_old are the log-probs of the model that sampled (`sampler_logps`), so that e^(l - l_old) is 1 on its own samples and
    falls with what has been unlearnt. With `token_rewards`, c_t being the mean of the reward model's logits up to t
    (`reward_mean`): omega+ = clip(2 sigmoid(c) - 1, 0, 1), omega- = clip(1 - 2 sigmoid(c), 0, 1); else both are 1.

    The code was read (InternLM/OREAL), not the paper, whose equation is remembered to have no A on right samples. Log-ratios
    are cut at +-20 nats, which the code does not do.
    """
    right, advantages = tokens.sides > 0, tokens.per_unit
    assert advantages is not None, "OREAL was given tokens without advantages"
    plus = minus = torch.ones_like(tokens.logps)
    if settings.token_rewards:
        drift = 2 * torch.sigmoid(tokens.columns[REWARD_MEAN]) - 1
        plus, minus = drift.clamp(0, 1), (-drift).clamp(0, 1)
    ratio = torch.exp(tokens.log_ratios(SAMPLER).clamp(max=LARGEST_LOG_RATIO))
    terms = torch.where(right, -plus * tokens.logps, minus * ratio) * advantages
    x = tokens.log_ratios().clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)
    return tokens.weights * (terms + settings.kl * (torch.expm1(-x) + x) / tokens.num_tokens)


def oreal_advantages(scores: Scores, settings: OrealObjective) -> Tensor:
    """`[U]` A+ / N+ of right units, negative |A-| / N- of wrong ones."""
    sides = scores.sides.to(scores.lengths)
    if settings.baseline == "none":
        size = rewards_of(scores).to(sides).abs()
    else:
        size = advantages_of(scores, sides, "leave_one_out").abs()
    right = (sides > 0).to(size)
    counted = torch.where(right > 0, (right * scores.lengths).sum(), ((1 - right) * scores.lengths).sum())
    return torch.where(right > 0, 1.0, settings.negative) * size / counted
