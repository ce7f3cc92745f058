"""KTO: desirable and undesirable examples, no pairs."""

from __future__ import annotations

import torch
from torch import Tensor

from redi_ray.config.objectives import KtoObjective
from redi_ray.objectives.base import Metrics, Scores, detached


def kto(scores: Scores, settings: KtoObjective, _progress: float) -> tuple[Tensor, Metrics]:
    """KTO (arXiv 2402.01306), mean over the sequences of the global batch.

        desirable    lambda_D (1 - sigmoid(beta (s - z)))
        undesirable  lambda_U (1 - sigmoid(beta (z - s)))

    s is the summed log-ratio to the reference. z stands for KL(policy || reference) and takes no gradient. The paper
    estimates it from mismatched pairs (x_i, y_j), which would need reference log-probs of sequences that are not in the
    data; here z = max(mean s, 0) over the batch's own sequences of both sides. It is the same at the start
    (z = 0 at policy == reference) and shifts all scores alike afterwards.
    """
    log_ratios = scores.log_ratios()
    z = log_ratios.detach().mean().clamp(min=0)
    desirable = scores.sides > 0
    gain = 1 - torch.sigmoid(settings.beta * (log_ratios - z) * scores.sides)
    loss = torch.where(desirable, settings.lambda_desirable * gain, settings.lambda_undesirable * gain).mean()
    return loss, {
        "kl": z,
        "reward_chosen": detached(settings.beta * log_ratios[desirable]),
        "reward_rejected": detached(settings.beta * log_ratios[~desirable]),
    }
