"""Divergences of a student's distribution from a teacher's over a few outcomes: value and gradient in closed form.

The outcomes of a position are the teacher's k likeliest tokens, with all others together as one outcome more or without them
(`Divergence.rest`). With q the teacher's shares and p the student's over them, both flattened by the temperature T:

    forward_kl  D = sum_i q_i log(q_i / p_i)                                   h_i = -q_i / p_i
    reverse_kl  D = sum_i p_i log(p_i / q_i)                                   h_i = log(p_i / q_i)
    js          D = b sum_i q_i log(q_i / m_i) + (1 - b) sum_i p_i log(p_i / m_i),  m = b q + (1 - b) p
                                                                               h_i = (1 - b) log(p_i / m_i)

    T^2 D is the term, and T p_i (h_i - sum_j p_j h_j) its gradient with respect to the student's logit of outcome i

h being dD / dp up to a constant, which cancels. With k the whole vocabulary these are the divergences themselves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from redi_ray.config.soft_objectives import DivergenceName, Outcomes, Rest


@dataclass(frozen=True)
class Divergence:
    """Which one, and over which outcomes."""

    name: DivergenceName = "forward_kl"
    beta: float = 0.5
    """Share of the teacher in the mixture of `js`."""
    temperature: float = 1.0
    rest: Rest = "bucket"
    top_k: int | None = None
    """So many of the teacher's tokens; None takes all that there are."""

    @classmethod
    def of(cls, settings: Outcomes) -> Divergence:
        """The one that an objective's settings ask for."""
        name: DivergenceName = getattr(settings, "divergence", None) or getattr(settings, "name")  # noqa: B009
        beta = getattr(settings, "beta", cls.beta)
        return cls(name, beta, settings.temperature, settings.rest, settings.top_k)


def divergence(logits: Tensor, targets: Tensor, how: Divergence) -> tuple[Tensor, Tensor]:
    """Value `[B]` (nats) of each row's term, and its gradient `[B, K]` with respect to the logits.

    logits: `[B, K]` the student's of K outcomes, -inf where there is no such outcome. targets: `[B, K]` the teacher's log-shares
    of them. Either may lack a constant in each row.
    """
    ours, theirs = (x.div(how.temperature).log_softmax(1) for x in (logits, targets))
    p, q = ours.exp(), theirs.exp()
    if how.name == "forward_kl":
        value, slope = _expected(q, theirs - ours), p - q
    else:
        if how.name == "reverse_kl":
            h = _where(p, ours - theirs)
            value = (p * h).sum(1)
        else:
            mixture = torch.logaddexp(theirs + math.log(how.beta), ours + math.log1p(-how.beta))
            h = (1 - how.beta) * _where(p, ours - mixture)
            value = how.beta * _expected(q, theirs - mixture) + (p * h).sum(1)
        slope = p * (h - (p * h).sum(1, keepdim=True))
    return value * how.temperature**2, slope * how.temperature


def _where(shares: Tensor, values: Tensor) -> Tensor:
    """`values` where the shares are not 0; 0 log 0 is 0."""
    return torch.where(shares > 0, values, 0.0)


def _expected(shares: Tensor, values: Tensor) -> Tensor:
    """`[B]` sum of `shares[B, K] * values[B, K]`."""
    return (shares * _where(shares, values)).sum(1)
