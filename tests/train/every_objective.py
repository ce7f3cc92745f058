"""Every objective with the settings that change its path through a step, and one that uses all of a step at once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from redi_ray.config.objectives import (
    AdvantageObjective,
    AlphaSchedule,
    AsymreObjective,
    CpoObjective,
    DphObjective,
    DpoObjective,
    ForwardKlObjective,
    GlowObjective,
    IpoObjective,
    JsObjective,
    KtoObjective,
    LdDpoObjective,
    NcaObjective,
    NftObjective,
    OnPolicyDistillationObjective,
    OrealObjective,
    OrpoObjective,
    PpoClipObjective,
    RediGroupsObjective,
    RediObjective,
    ReverseKlObjective,
    RpoObjective,
    S2rObjective,
    SftObjective,
    SimpoObjective,
    SoftRediObjective,
    ToprObjective,
)
from redi_ray.objectives import OBJECTIVES as SPECS
from redi_ray.objectives.spec import always


@dataclass(frozen=True)
class BothParts:
    """DPO with a pointwise part that reads all there is to read, the batch's own numbers too."""

    name: str = "both"
    beta: float = 0.1


def both_pointwise(tokens, settings, _progress):
    """Bends at every log-prob; no two tokens have the same factor."""
    factor = tokens.weights * tokens.rewards * (2 + tokens.sides) / tokens.lengths / tokens.num_sequences
    return factor * torch.sin(tokens.log_ratios()) + tokens.logps.square() / (tokens.num_groups * tokens.num_tokens)


SOFT = [
    ForwardKlObjective(),
    ForwardKlObjective(rest="renormalise", temperature=2.0, normalization="sequence_mean"),
    ReverseKlObjective(nll_weight=0.3, top_k=2),
    JsObjective(beta=0.2, temperature=0.7),
    SoftRediObjective(),
    SoftRediObjective(divergence="js", nll_weight=0.5, schedule=AlphaSchedule(kind="cosine", until=0.8)),
]
"""Those on a teacher's distributions."""
BOTH = replace(SPECS["dpo"], pointwise=both_pointwise, needs_rewards=always)
OBJECTIVES = [
    SftObjective(),
    SftObjective(normalization="sequence_mean"),
    RediObjective(),
    RediObjective(schedule=AlphaSchedule(kind="cosine", until=0.8)),
    RediObjective(exp_gamma=0.3),
    DpoObjective(),
    SimpoObjective(),
    IpoObjective(),
    RpoObjective(),
    NcaObjective(),
    CpoObjective(),
    OrpoObjective(),
    KtoObjective(lambda_undesirable=0.7),
    KtoObjective(normalization="sequence_mean", beta=2.0),
    KtoObjective(baseline="batch_mean"),
    KtoObjective(baseline="none"),
    AsymreObjective(),
    AsymreObjective(baseline="constant", shift=0.3, normalization="sequence_mean"),
    AdvantageObjective(),
    AdvantageObjective(baseline="group_scaled", normalization="sum"),
    DphObjective(divergence="nll"),
    DphObjective(divergence="k3"),
    DphObjective(),
    DphObjective(divergence="alpha"),
    DphObjective(divergence="reverse"),
    LdDpoObjective(),
    LdDpoObjective(alpha=0.0),
    RediGroupsObjective(),
    RediGroupsObjective(exp_gamma=0.3),
    S2rObjective(),
    S2rObjective(kl_gradient=True, kl=0.02),
    OrealObjective(),
    OrealObjective(token_rewards=True, kl=0.1),
    ToprObjective(),
    ToprObjective(normalization="sequence_mean"),
    NftObjective(),
    NftObjective(prompt_weight="scaled", epsilon=0.3),
    PpoClipObjective(),
    GlowObjective(beta=0.3, alpha=2.0, least=0.1),
    *SOFT,
    OnPolicyDistillationObjective(),
    OnPolicyDistillationObjective(baseline="none", most=1.5),
    OnPolicyDistillationObjective(student="policy"),
    BothParts(),
]
