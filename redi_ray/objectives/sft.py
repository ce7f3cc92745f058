"""Supervised fine-tuning."""

from __future__ import annotations

from torch import Tensor

from redi_ray.config.objectives import SftObjective
from redi_ray.objectives.base import Metrics, Scores


def sft(scores: Scores, settings: SftObjective, _progress: float) -> tuple[Tensor, Metrics]:
    """Negative log-likelihood of the chosen sequences (stage 1 of REDI, arXiv 2505.24850).

    token_mean:     L = -sum_i log pi(y_i|x_i) / sum_i |y_i|        denominator: scored tokens of the global batch
    sequence_mean:  L = -mean_i log pi(y_i|x_i) / |y_i|             denominator: own length, then sequences

    Where sequences have several units, i runs over these. `kl_vocabulary` adds its weight times the mean over scored tokens
    (by their weights) of KL(pi || pi_ref), which the head's kernel takes over the whole vocabulary
    (`redi_ray.modeling.pull`)."""
    if settings.normalization == "token_mean":
        return -scores.logps.sum() / scores.lengths.sum(), {}
    return -scores.mean_logps().mean(), {}
