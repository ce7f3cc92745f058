"""GLOW: right and wrong samples alike are imitated, most those that little has been learnt from."""

from __future__ import annotations

import torch
from torch import Tensor

from redi_ray.config.rollout_objectives import GlowObjective
from redi_ray.objectives.base import Metrics, Scores, detached


def glow(scores: Scores, settings: GlowObjective, _progress: float) -> tuple[Tensor, Metrics]:
    """GLOW (arXiv 2601.04992): `L = mean_u sg[w_u] n_u`, n = -log pi(y|x) / |y|, w = alpha (1 - sigmoid(beta (n_before - n))).

    n_before is a sample's loss one epoch earlier: the more it has fallen, the less it weighs. Here it is the loss of the
    reference, the model that training starts from. A training of one epoch that goes on from the one before (`repeat`) has
    that epoch's end for it, and the first one is `sft` on all samples, as in the paper; over several epochs in one training
    it is the whole gain since the start. Denominators: a unit's scored tokens, then the units of the global batch. Every unit
    is imitated, whatever its side: it is the counter-claim to negative signals.

    Read: the abstract, and the code (Eureka-Maggie/GLOW): formula, w clipped to .5 .. 5, alpha 1 or 2 and beta 5 to 30 in its
    configs. The paper's own choice of the two was not to be read; 1 and 20 are one of the code's.
    """
    n = -scores.mean_logps()
    assert scores.ref_logps is not None, "GLOW was given scores without a reference"
    gain = (-scores.ref_logps / scores.lengths - n).detach()
    weights = (settings.alpha * (1 - torch.sigmoid(settings.beta * gain))).clamp(settings.least, settings.most)
    return (weights * n).mean(), {"gain": detached(gain), "weight": detached(weights)}
