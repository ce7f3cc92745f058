"""DPH's rehearsal: a divergence from a stored reference, token by token, on samples that the reference got right."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from redi_ray.config.rollout_objectives import DphObjective
from redi_ray.objectives.base import Tokens

LARGEST_LOG_RATIO = 20.0
"""Log-ratios (nats) are cut there, as in the paper's code: e^x stays finite, and beyond it a token has no slope. The code cuts
the value of k3 at 10, too, and with it the slope where most was forgotten; that is not done here."""


def rehearsal(tokens: Tokens, settings: DphObjective, _progress: float) -> Tensor:
    """DPH (arXiv 2509.07430), the term of its rehearsal set: `sum_t coefficient w_t f(u_t) / N`, u = pi / pi_ref.

    N: scored tokens of the global batch. With x = log u, which keeps every form finite:

        nll    -log u                              slope in log pi: -1, that is SFT on the reference's samples
        k3     u - 1 - log u                       u - 1
        js     u log u - (u + 1) log((u + 1) / 2)  u log(2 u / (1 + u))
        alpha  (u^(1 - a) - (1 - a) u - a) / (a (a - 1))   u (1 - u^-a) / a
        reverse  1 / u - 1 + log u                 1 - 1 / u

    All but `nll` are 0 with slope 0 at u = 1. `nll` and `k3` have the same expectation under the reference, KL(pi_ref || pi);
    the paper's text has the first one, its code (which calls it forward) the second. `reverse` is the k3 of the samples of
    the policy itself, whose expectation is KL(pi || pi_ref); the paper's code has it on the samples that are explored, and
    no rehearsal set beside it. On the reference's samples it is another thing, which only shares its minimum.
    """
    x = tokens.log_ratios()
    if settings.divergence != "nll":
        x = x.clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)
    return settings.coefficient * tokens.weights * divergence(x, settings) / tokens.num_tokens


def divergence(x: Tensor, settings: DphObjective) -> Tensor:
    """`f(e^x)` of log-ratios x `[n]`."""
    u, a = torch.exp(x), settings.alpha
    if settings.divergence == "nll":
        return -x
    if settings.divergence == "k3":
        return torch.expm1(x) - x
    if settings.divergence == "js":
        return u * x - (u + 1) * (softplus(x) - math.log(2))
    if settings.divergence == "reverse":
        return torch.expm1(-x) + x
    return (torch.exp((1 - a) * x) - (1 - a) * u - a) / (a * (a - 1))
