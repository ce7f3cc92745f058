"""KTO: desirable and undesirable examples, no pairs."""

from __future__ import annotations

import torch
from torch import Tensor

from redi_ray.config.objectives import KtoObjective
from redi_ray.objectives.base import Metrics, MismatchedScores, Scores, detached


def kto(scores: Scores, settings: KtoObjective, _progress: float) -> tuple[Tensor, Metrics]:
    """KTO (arXiv 2402.01306, eq. 8), mean over the sequences of the global batch.

        desirable    lambda_D (1 - sigmoid(beta (s - z)))
        undesirable  lambda_U (1 - sigmoid(beta (z - s)))

    s is the log-ratio to the reference: summed over scored tokens (`sum`, the paper's), or divided by their number
    (`sequence_mean`). z >= 0 stands for KL(policy || reference) and carries no gradient; see `reference_point`.
    """
    ratios, z = scores.log_ratios(), reference_point(scores, settings)
    if settings.normalization == "sequence_mean":
        ratios = ratios / scores.lengths
    desirable = scores.sides > 0
    gain = 1 - torch.sigmoid(settings.beta * (ratios - z) * scores.sides)
    loss = torch.where(desirable, settings.lambda_desirable * gain, settings.lambda_undesirable * gain).mean()
    return loss, {
        "kl": z,
        "reward_chosen": detached(settings.beta * ratios[desirable]),
        "reward_rejected": detached(settings.beta * ratios[~desirable]),
    }


def reference_point(scores: Scores, settings: KtoObjective) -> Tensor:
    """z `[]`, detached: the mean over the global batch of the log-ratios, normalised like s, clamped at 0.

    mismatched   of the mismatched sequences (the paper's estimate)
    batch_mean   of the batch's own sequences: needs no further forward pass, but follows the rewards that it is to be
                 compared with. The more desirable sequences a batch has, the higher it is
    none         z = 0: rewards are compared with the reference itself
    """
    if settings.baseline == "none":
        return scores.logps.new_zeros(())
    source: Scores | MismatchedScores = scores
    if settings.baseline == "mismatched":
        assert scores.mismatched is not None, "a mismatched baseline was given scores without mismatched sequences"
        source = scores.mismatched
    ratios = source.log_ratios().detach()
    if settings.normalization == "sequence_mean":
        ratios = ratios / source.lengths
    return ratios.mean().clamp(min=0)
