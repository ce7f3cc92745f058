"""Pairwise objectives without a reference beside REDI: SimPO, CPO, ORPO. The loss is the mean over the batch's pairs."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from redi_ray.config.objectives import CpoObjective, OrpoObjective, SimpoObjective
from redi_ray.objectives.base import Metrics, Scores, detached
from redi_ray.objectives.dpo import reward_metrics


def simpo(scores: Scores, settings: SimpoObjective, _progress: float) -> tuple[Tensor, Metrics]:
    """SimPO (arXiv 2405.14734, eq. 6): `L = -log sigmoid(beta (r_w - r_l) - gamma)`, r = log pi(y|x) / |y|."""
    chosen, rejected = scores.pairs(settings.beta * scores.mean_logps())
    return -logsigmoid(chosen - rejected - settings.gamma).mean(), reward_metrics(chosen, rejected)


def cpo(scores: Scores, settings: CpoObjective, _progress: float) -> tuple[Tensor, Metrics]:
    """CPO (arXiv 2401.08417): `L = -log sigmoid(beta (s_w - s_l)) + nll_weight * -log pi(y_w|x) / |y_w|`.

    s = log pi(y|x), summed: DPO with a uniform reference.
    """
    chosen, rejected = scores.pairs(settings.beta * scores.logps)
    nll = -scores.pairs(scores.mean_logps())[0]
    loss = (-logsigmoid(chosen - rejected) + settings.nll_weight * nll).mean()
    return loss, {**reward_metrics(chosen, rejected), "nll": detached(nll)}


LEAST_NLL = 1e-8
"""Nats per token below which ORPO's odds are cut off; at 0 they would be infinite."""


def orpo(scores: Scores, settings: OrpoObjective, _progress: float) -> tuple[Tensor, Metrics]:
    """ORPO (arXiv 2403.07691): `L = -r_w - beta log sigmoid(log odds_w - log odds_l)`.

    r = log pi(y|x) / |y|, odds = p / (1 - p) with p = exp(r).
    """
    mean_logps = scores.mean_logps().clamp(max=-LEAST_NLL)
    log_odds = mean_logps - torch.log(-torch.expm1(mean_logps))
    chosen, rejected = scores.pairs(log_odds)
    nll = -scores.pairs(scores.mean_logps())[0]
    loss = (nll - settings.beta * logsigmoid(chosen - rejected)).mean()
    return loss, {"nll": detached(nll), "log_odds_ratio": detached(chosen - rejected)}
