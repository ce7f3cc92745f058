"""Pairwise objectives on the log-ratio to a stored reference: DPO, IPO, RPO (DPO + NLL), NCA.

Everywhere s = log pi(y|x) - log pi_ref(y|x), summed over scored tokens unless said otherwise, and the loss is the mean
over the pairs of the global batch.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid

from redi_ray.config.objectives import DpoObjective, IpoObjective, LdDpoObjective, NcaObjective, RpoObjective
from redi_ray.objectives.base import Metrics, Scores, detached


def reward_metrics(chosen: Tensor, rejected: Tensor) -> Metrics:
    """Implicit rewards `[G]` of both sides -> what is logged of them."""
    return {
        "reward_chosen": detached(chosen),
        "reward_rejected": detached(rejected),
        "reward_margin": detached(chosen - rejected),
        "reward_accuracy": detached((chosen > rejected).to(chosen.dtype)),
    }


def dpo(scores: Scores, settings: DpoObjective, _progress: float) -> tuple[Tensor, Metrics]:
    """DPO (arXiv 2305.18290, eq. 7): `L = -log sigmoid(beta (s_w - s_l))`. At policy == reference it is log 2."""
    chosen, rejected = scores.pairs(settings.beta * scores.log_ratios())
    return -logsigmoid(chosen - rejected).mean(), reward_metrics(chosen, rejected)


def ld_dpo(scores: Scores, settings: LdDpoObjective, _progress: float) -> tuple[Tensor, Metrics]:
    """LD-DPO (arXiv 2409.06411): DPO, each sum being that of the pair's common length plus `alpha` times that of the rest.

    The common length is the shorter side's number of scored tokens; `tail_weight` has the trainer weigh the longer side's
    others with alpha, in policy and reference alike. alpha = 1 is DPO. Read: the paper's abstract and summaries, and its form
    in TRL (`ld_alpha`), whose page on papers sets it to 0.5; the paper tunes it for each model.
    """
    chosen, rejected = scores.pairs(settings.beta * scores.log_ratios())
    return -logsigmoid(chosen - rejected).mean(), reward_metrics(chosen, rejected)


def ipo(scores: Scores, settings: IpoObjective, _progress: float) -> tuple[Tensor, Metrics]:
    """IPO (arXiv 2310.12036, eq. 17): `L = (s_w - s_l - 1/(2 beta))^2`, s here the *mean* log-ratio per scored token.

    The paper has the sum; the mean, as later implementations have it, keeps one beta meaningful over all lengths.
    """
    chosen, rejected = scores.pairs(scores.log_ratios() / scores.lengths)
    return (chosen - rejected - 1 / (2 * settings.beta)).square().mean(), reward_metrics(chosen, rejected)


def rpo(scores: Scores, settings: RpoObjective, _progress: float) -> tuple[Tensor, Metrics]:
    """Iterative RPO (arXiv 2404.19733): DPO `+ nll_weight * -log pi(y_w|x) / |y_w|`."""
    chosen, rejected = scores.pairs(settings.beta * scores.log_ratios())
    nll = -scores.pairs(scores.mean_logps())[0]
    loss = (-logsigmoid(chosen - rejected) + settings.nll_weight * nll).mean()
    return loss, {**reward_metrics(chosen, rejected), "nll": detached(nll)}


def nca(scores: Scores, settings: NcaObjective, _progress: float) -> tuple[Tensor, Metrics]:
    """NCA (arXiv 2402.05369): `L = -log sig(r_w) - 1/2 log sig(-r_w) - 1/2 log sig(-r_l)`, r = beta s.

    It raises the chosen log-prob itself and not just the difference. At policy == reference its gradient is half DPO's.
    """
    chosen, rejected = scores.pairs(settings.beta * scores.log_ratios())
    loss = (-logsigmoid(chosen) - 0.5 * logsigmoid(-chosen) - 0.5 * logsigmoid(-rejected)).mean()
    return loss, reward_metrics(chosen, rejected)
