"""Settings of each objective: one frozen dataclass per loss, its `name` being the tag in the YAML.

Standard library only, like `redi_ray.config.training`. The losses themselves are in `redi_ray.objectives`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from redi_ray.config.reward_objectives import (
    BradleyTerryObjective,
    OrealRmObjective,
    OutcomeBceObjective,
    StepBceObjective,
    StepMseObjective,
)
from redi_ray.config.rollout_objectives import (
    AdvantageObjective,
    AsymreObjective,
    DphObjective,
    GlowObjective,
    NftObjective,
    OrealObjective,
    PpoClipObjective,
    S2rObjective,
    ToprObjective,
)
from redi_ray.config.schedules import AlphaSchedule
from redi_ray.config.soft_objectives import (
    ForwardKlObjective,
    JsObjective,
    OnPolicyDistillationObjective,
    ReverseKlObjective,
    SoftRediObjective,
)
from redi_ray.config.strict import STRICT, require


@dataclass(frozen=True, kw_only=True)
class SftObjective:
    """Supervised fine-tuning: `-sum_t w_t logp_t`. On pairs it reads the chosen side only."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    LATER: ClassVar[frozenset[str]] = frozenset({"kl_vocabulary"})
    """See `redi_ray.config.identity`."""

    name: Literal["sft"] = "sft"
    normalization: Literal["token_mean", "sequence_mean"] = "token_mean"
    """`token_mean` divides by all scored tokens of the global batch, `sequence_mean` each sequence by its own length."""
    kl_vocabulary: float = 0.0
    """Weight of KL(policy || the model that training starts from) over the whole vocabulary, the mean over scored tokens, as
    in S2R's first stage (.1). That model, whole and frozen, is held beside the policy on every rank. 0: none."""

    def __post_init__(self) -> None:
        require(self.kl_vocabulary >= 0, f"kl_vocabulary must be >= 0, got {self.kl_vocabulary}")


@dataclass(frozen=True, kw_only=True)
class RediObjective:
    """REDI (arXiv 2505.24850): `-logp(chosen)/|chosen| + alpha * logp(rejected)/|rejected|`, no reference model."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: Literal["redi"] = "redi"
    alpha: float = 0.8
    """Negative weight. 0 is SFT on the chosen traces, 1 the symmetric loss, 0.8 the paper's choice."""
    schedule: AlphaSchedule = field(default_factory=AlphaSchedule)
    """Moves alpha over the run."""
    exp_gamma: float | None = None
    """If set, the negative term is multiplied by `exp(exp_gamma * logp(rejected)/|rejected|)`, which bounds it."""

    def __post_init__(self) -> None:
        require(self.alpha >= 0, f"alpha must be >= 0, got {self.alpha}")
        require(self.exp_gamma is None or self.exp_gamma > 0, f"exp_gamma must be > 0, got {self.exp_gamma}")


@dataclass(frozen=True, kw_only=True)
class DpoObjective:
    """DPO (arXiv 2305.18290): `-log sigmoid(beta * (s_w - s_l))`, s the summed log-ratio to the reference."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: Literal["dpo"] = "dpo"
    beta: float = 0.1
    """Strength of the pull to the reference."""

    def __post_init__(self) -> None:
        require(self.beta > 0, f"beta must be > 0, got {self.beta}")


@dataclass(frozen=True, kw_only=True)
class SimpoObjective:
    """SimPO (arXiv 2405.14734): `-log sigmoid(beta * (s_w - s_l) - gamma)`, s the mean log-prob; no reference."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: Literal["simpo"] = "simpo"
    beta: float = 2.0
    """Scale of the reward."""
    gamma: float = 1.0
    """Target margin."""

    def __post_init__(self) -> None:
        require(self.beta > 0, f"beta must be > 0, got {self.beta}")
        require(math.isfinite(self.gamma), f"gamma must be a finite number, got {self.gamma}")


@dataclass(frozen=True, kw_only=True)
class IpoObjective:
    """IPO (arXiv 2310.12036): `(s_w - s_l - 1/(2 beta))^2`, s the mean log-ratio to the reference."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: Literal["ipo"] = "ipo"
    beta: float = 0.1
    """Regularisation; the target margin is 1/(2 beta)."""

    def __post_init__(self) -> None:
        require(self.beta > 0, f"beta must be > 0, got {self.beta}")


@dataclass(frozen=True, kw_only=True)
class RpoObjective:
    """DPO + NLL of the chosen side (arXiv 2404.19733)."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: Literal["rpo"] = "rpo"
    beta: float = 0.1
    """DPO's beta."""
    nll_weight: float = 1.0
    """Weight of the length-normalised NLL of the chosen side."""

    def __post_init__(self) -> None:
        require(self.beta > 0, f"beta must be > 0, got {self.beta}")
        require(self.nll_weight >= 0, f"nll_weight must be >= 0, got {self.nll_weight}")


@dataclass(frozen=True, kw_only=True)
class NcaObjective:
    """NCA (arXiv 2402.05369): `-log sig(r_w) - 1/2 log sig(-r_w) - 1/2 log sig(-r_l)`, r = beta * s."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: Literal["nca"] = "nca"
    beta: float = 0.1
    """Scale of the implicit reward."""

    def __post_init__(self) -> None:
        require(self.beta > 0, f"beta must be > 0, got {self.beta}")


@dataclass(frozen=True, kw_only=True)
class CpoObjective:
    """CPO (arXiv 2401.08417): DPO with a uniform reference, plus NLL of the chosen side."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: Literal["cpo"] = "cpo"
    beta: float = 0.1
    """Scale of the summed log-prob difference."""
    nll_weight: float = 1.0
    """Weight of the length-normalised NLL of the chosen side."""

    def __post_init__(self) -> None:
        require(self.beta > 0, f"beta must be > 0, got {self.beta}")
        require(self.nll_weight >= 0, f"nll_weight must be >= 0, got {self.nll_weight}")


@dataclass(frozen=True, kw_only=True)
class OrpoObjective:
    """ORPO (arXiv 2403.07691): NLL of the chosen side - beta * log sigmoid(log odds ratio); no reference."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: Literal["orpo"] = "orpo"
    beta: float = 0.1
    """Weight of the odds-ratio term (lambda in the paper)."""

    def __post_init__(self) -> None:
        require(self.beta >= 0, f"beta must be >= 0, got {self.beta}")


@dataclass(frozen=True, kw_only=True)
class KtoObjective:
    """KTO (arXiv 2402.01306): unpaired; `lambda * (1 - sigmoid(+-beta * (s - z)))`, z a detached estimate of the KL."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: Literal["kto"] = "kto"
    beta: float = 0.1
    """Scale of the implicit reward."""
    lambda_desirable: float = 1.0
    """Weight of chosen traces."""
    lambda_undesirable: float = 1.0
    """Weight of rejected traces."""
    normalization: Literal["sum", "sequence_mean"] = "sum"
    """The reward s, and z with it: the log-ratio to the reference summed over a trace's scored tokens (the paper's), or
    divided by their number. A beta that suits the one is too small or too large for the other by a trace's length."""
    baseline: Literal["mismatched", "batch_mean", "none"] = "mismatched"
    """Where z comes from. `mismatched`: mean log-ratio of prompts with other problems' traces, as in the paper; costs a
    forward pass over as many tokens again, in training and once in the reference. `batch_mean`: of the batch's own traces,
    free, but it moves with the rewards themselves. `none`: z = 0."""

    def __post_init__(self) -> None:
        require(self.beta > 0, f"beta must be > 0, got {self.beta}")
        for name in ("lambda_desirable", "lambda_undesirable"):
            require(getattr(self, name) >= 0, f"{name} must be >= 0, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class LdDpoObjective:
    """LD-DPO (arXiv 2409.06411): DPO, in which what is longer than the pair's other side counts less."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: Literal["ld_dpo"] = "ld_dpo"
    beta: float = 0.1
    """DPO's beta."""
    alpha: float = 0.5
    """Weight of the tokens beyond the shorter side's length; 1 is DPO, 0 leaves them alone."""

    def __post_init__(self) -> None:
        require(self.beta > 0, f"beta must be > 0, got {self.beta}")
        require(0 <= self.alpha <= 1, f"alpha must be between 0 and 1, got {self.alpha}")


@dataclass(frozen=True, kw_only=True)
class RediGroupsObjective:
    """REDI on all samples of a problem: its positives and its negatives are each averaged; no reference model."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: Literal["redi_groups"] = "redi_groups"
    alpha: float = 0.8
    """Weight of a problem's negatives together."""
    schedule: AlphaSchedule = field(default_factory=AlphaSchedule)
    """Moves alpha over the run."""
    exp_gamma: float | None = None
    """As REDI's."""

    def __post_init__(self) -> None:
        require(self.alpha >= 0, f"alpha must be >= 0, got {self.alpha}")
        require(self.exp_gamma is None or self.exp_gamma > 0, f"exp_gamma must be > 0, got {self.exp_gamma}")


Objective = (
    SftObjective
    | RediObjective
    | DpoObjective
    | SimpoObjective
    | IpoObjective
    | RpoObjective
    | NcaObjective
    | CpoObjective
    | OrpoObjective
    | KtoObjective
    | AsymreObjective
    | AdvantageObjective
    | DphObjective
    | BradleyTerryObjective
    | OutcomeBceObjective
    | OrealRmObjective
    | StepBceObjective
    | StepMseObjective
    | LdDpoObjective
    | RediGroupsObjective
    | S2rObjective
    | OrealObjective
    | ToprObjective
    | NftObjective
    | PpoClipObjective
    | GlowObjective
    | ForwardKlObjective
    | ReverseKlObjective
    | JsObjective
    | SoftRediObjective
    | OnPolicyDistillationObjective
)

IMITATING = frozenset({"sft", "dph", "forward_kl", "reverse_kl", "js"})
"""Names of those that learn from right answers alone (`sides` in `redi_ray.objectives.OBJECTIVES`)."""
UNPAIRED = frozenset(
    {"kto", "asymre", "advantage", "redi_groups", "s2r", "glow", "topr", "oreal", "nft", "ppo_clip"}
    | {"outcome_bce", "oreal_rm", "step_bce", "step_mse", "on_policy_distillation"}
)
"""Names of those that read every sequence, paired or not (the same)."""
REWARDED = frozenset({"asymre", "advantage", "s2r", "ppo_clip", "step_bce", "step_mse"})
"""Names of those that need rewards."""
COMPARING = frozenset({"oreal", "nft"})
"""Names of those that learn from groups with both sides alone, paired or not."""
SAMPLED = frozenset({"oreal", "topr", "nft", "ppo_clip", "on_policy_distillation"})
"""Names of those that read the sampler's log-probs, the token column `sampler_logps`, by their defaults."""
BY_UNIT = UNPAIRED - {"kto", "outcome_bce", "oreal_rm"} - COMPARING | IMITATING
"""Names of those whose sequences may have several units."""
