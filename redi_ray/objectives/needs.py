"""What objectives ask of their data under their settings. No torch here, see `redi_ray.objectives.spec`."""

from __future__ import annotations

from redi_ray.config.objectives import KtoObjective, LdDpoObjective, RediGroupsObjective, RediObjective
from redi_ray.config.rollout_objectives import (
    AdvantageObjective,
    AsymreObjective,
    NftObjective,
    OrealObjective,
    PpoClipObjective,
    ToprObjective,
)
from redi_ray.config.soft_objectives import OnPolicyDistillationObjective

SAMPLER = "sampler_logps"
"""Token column: log-probs of the model that sampled, at temperature 1."""
TEACHER = "teacher_logps"
"""Token column: log-probs of the teacher."""
SOFT_TARGETS = "soft_targets"
"""Token column: a teacher's distributions over the next token (`redi_ray.modeling.soft_columns`)."""
REWARD_MEAN = "reward_mean"
"""Token column: the mean of a token reward model's logits from a sample's first token to this one."""


def redi_is_linear(settings: RediObjective | RediGroupsObjective) -> bool:
    return settings.exp_gamma is None


def asymre_compares(settings: AsymreObjective) -> bool:
    return settings.baseline != "constant"


def advantage_compares(settings: AdvantageObjective) -> bool:
    return settings.baseline != "none"


def kto_is_mismatched(settings: KtoObjective) -> bool:
    return settings.baseline == "mismatched"


def oreal_needs_rewards(settings: OrealObjective) -> bool:
    return settings.baseline == "none"


def nft_needs_rewards(settings: NftObjective) -> bool:
    return settings.rate == "advantages"


def oreal_columns(settings: OrealObjective) -> tuple[str, ...]:
    return (SAMPLER, REWARD_MEAN) if settings.token_rewards else (SAMPLER,)


def sampler_column(_settings: NftObjective | PpoClipObjective | ToprObjective) -> tuple[str, ...]:
    return (SAMPLER,)


def on_policy_columns(settings: OnPolicyDistillationObjective) -> tuple[str, ...]:
    return (TEACHER,) if settings.student == "policy" else (TEACHER, SAMPLER)


def on_policy_sums(settings: OnPolicyDistillationObjective) -> tuple[str, ...]:
    return (TEACHER, SAMPLER) if settings.student == "sampler" and settings.baseline == "batch_mean" else ()


def ppo_compares(settings: PpoClipObjective) -> bool:
    return settings.baseline != "none"


def tail_weight(settings: LdDpoObjective) -> float:
    return settings.alpha
