"""Settings of each objective: one frozen dataclass per loss, its `name` being the tag in the YAML.

Standard library only, like `redi_ray.config.training`. The losses themselves are in `redi_ray.objectives`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

STRICT: dict[str, Any] = {"extra": "forbid", "use_attribute_docstrings": True}
"""What pydantic reads from `__pydantic_config__`: unknown keys are errors, attribute docstrings are descriptions."""


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True, kw_only=True)
class SftObjective:
    """Supervised fine-tuning: `-sum_t w_t logp_t`. On pairs it reads the chosen side only."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: Literal["sft"] = "sft"
    normalization: Literal["token_mean", "sequence_mean"] = "token_mean"
    """`token_mean` divides by all scored tokens of the global batch, `sequence_mean` each sequence by its own length."""


@dataclass(frozen=True, kw_only=True)
class AlphaSchedule:
    """How the negative weight moves from `start` to the objective's `alpha` over the run."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: Literal["constant", "linear", "cosine", "step"] = "constant"
    start: float = 0.0
    """Weight at the first step (unused for `constant`)."""
    until: float = 1.0
    """Share of the run's steps, in (0, 1], after which the weight is `alpha`; for `step`, where it jumps."""

    def __post_init__(self) -> None:
        require(self.start >= 0, f"start must be >= 0, got {self.start}")
        require(0 < self.until <= 1, f"until must be in (0, 1], got {self.until}")


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
class AsymreObjective:
    """AsymRE (arXiv 2506.20520): `-(reward - V) * s`, s the log-prob; needs rewards, no reference."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: Literal["asymre"] = "asymre"
    baseline: Literal["group_mean", "constant"] = "group_mean"
    """What V is measured from: the mean reward of a problem's samples, or 0."""
    shift: float = -0.1
    """V above that. Below 0 it leans on good samples, and training stays stable; the paper warns of values above 0."""
    normalization: Literal["sum", "sequence_mean"] = "sum"
    """s: summed over scored tokens (the paper's), or divided by their number."""

    def __post_init__(self) -> None:
        require(math.isfinite(self.shift), f"shift must be a finite number, got {self.shift}")


@dataclass(frozen=True, kw_only=True)
class AdvantageObjective:
    """Log-likelihood weighted with the advantage over a problem's other samples (RLOO, arXiv 2402.14740; AdvDistill,
    2507.00054); needs rewards, no reference."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: Literal["advantage"] = "advantage"
    baseline: Literal["leave_one_out", "group_mean", "group_scaled", "none"] = "leave_one_out"
    """Taken from each reward: the mean of the problem's other samples, that of all of them, the same and then divided by
    their standard deviation, or nothing."""
    normalization: Literal["sequence_mean", "sum"] = "sequence_mean"
    """The log-prob: divided by the number of scored tokens, or summed over them."""


@dataclass(frozen=True, kw_only=True)
class DphObjective:
    """The rehearsal term of DPH (arXiv 2509.07430): a divergence from the stored reference on positives, token by token."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: Literal["dph"] = "dph"
    divergence: Literal["nll", "k3", "js", "alpha", "reverse"] = "js"
    """`nll` is -log u of the ratio u to the reference (SFT), `k3` another estimate of the same forward KL that starts with
    no slope, `js` Jensen-Shannon, `alpha` between the two KLs, `reverse` the other KL, on samples of the policy itself."""
    alpha: float = 0.2
    """Of `alpha`: towards 1 it is the forward KL, towards 0 the reverse one."""
    coefficient: float = 0.05
    """Factor on the term (eta); the paper has 0.01 to 0.05 for the KL and 0.05 to 0.2 for `js`."""

    def __post_init__(self) -> None:
        require(0 < self.alpha < 1, f"alpha must be between 0 and 1, got {self.alpha}")
        require(self.coefficient > 0, f"coefficient must be > 0, got {self.coefficient}")


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


@dataclass(frozen=True, kw_only=True)
class S2rObjective:
    """S2R offline (arXiv 2502.12853): `-min(A rho, A clip(rho))`, rho the mean ratio to the reference of a sequence, or with
    `units: spans` of a segment, `A = reward - kl * log rho`; needs rewards, +1 and -1 in the paper."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: Literal["s2r"] = "s2r"
    clip: float = 0.2
    """How far rho may be from 1."""
    kl: float = 0.15
    """Weight of the log-ratio that is taken from each reward."""
    kl_gradient: bool = False
    """Whether the gradient goes through that, as in the paper's code at outcome level."""

    def __post_init__(self) -> None:
        require(0 < self.clip < 1, f"clip must be between 0 and 1, got {self.clip}")
        require(self.kl >= 0, f"kl must be >= 0, got {self.kl}")


@dataclass(frozen=True, kw_only=True)
class OrealObjective:
    """OREAL offline (arXiv 2502.06781): right samples imitated, wrong ones pushed down, by advantages over the problem's samples,
    with a KL to the reference; needs the sampler's log-probs (`sampler_logps`)."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: Literal["oreal"] = "oreal"
    kl: float = 0.01
    """Weight of the KL."""
    negative: float = 0.5
    """Weight of the wrong samples."""
    token_rewards: bool = False
    """Weigh tokens by what a token reward model says of them, the column `reward_mean`; else all weigh 1."""

    def __post_init__(self) -> None:
        for name in ("kl", "negative"):
            require(getattr(self, name) >= 0, f"{name} must be >= 0, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class ToprObjective:
    """TOPR (arXiv 2503.14286): right samples imitated, wrong ones pushed down by their ratio to the sampler, at most 1; needs its
    log-probs (`sampler_logps`), no reference."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: Literal["topr"] = "topr"
    normalization: Literal["sum", "sequence_mean"] = "sum"
    """Log-prob and log-ratio: summed over scored tokens (the paper's), or divided by their number."""


@dataclass(frozen=True, kw_only=True)
class NftObjective:
    """NFT (arXiv 2505.18116) on stored samples: wrong ones train the negative policy that the positive one implies; needs the
    sampler's log-probs (`sampler_logps`), no reference."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: Literal["nft"] = "nft"
    epsilon: float = 1.0
    """Least value of the implied ratio: the smaller, the harder wrong tokens that have become likelier are pushed down."""
    prompt_weight: Literal["wrong_share", "scaled", "one"] = "wrong_share"
    """Of a problem with a share q of right samples: 1 - q, sqrt((1 - q) / q), or 1."""
    least_rate: float = 0.02
    """q is held between this and 1 less it."""

    def __post_init__(self) -> None:
        require(self.epsilon > 0, f"epsilon must be > 0, got {self.epsilon}")
        require(0 < self.least_rate < 0.5, f"least_rate must be between 0 and 0.5, got {self.least_rate}")


@dataclass(frozen=True, kw_only=True)
class PpoClipObjective:
    """PPO's clipped ratio (arXiv 1707.06347) on stored samples, with the advantage over the problem's samples; needs rewards and
    the sampler's log-probs (`sampler_logps`)."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: Literal["ppo_clip"] = "ppo_clip"
    low: float = 0.2
    """How far below 1 the ratio counts; this and the following are those of DPH's exploration."""
    high: float = 0.28
    """How far above."""
    dual: float = 3.0
    """Where the advantage is below 0, the ratio counts up to here."""
    baseline: Literal["group_scaled", "leave_one_out", "group_mean", "none"] = "group_scaled"
    """Of the advantage, as of `advantage`."""

    def __post_init__(self) -> None:
        require(0 < self.low < 1, f"low must be between 0 and 1, got {self.low}")
        require(self.high > 0, f"high must be > 0, got {self.high}")
        require(self.dual > 1 + self.high, f"dual must be more than 1 + high, got {self.dual}")


@dataclass(frozen=True, kw_only=True)
class GlowObjective:
    """GLOW (arXiv 2601.04992): every sample, right or wrong, is imitated, the more the less has been learnt from it."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: Literal["glow"] = "glow"
    alpha: float = 1.0
    """Factor on the weights."""
    beta: float = 20.0
    """How fast they fall with the gain (nats per token since the reference)."""
    least: float = 0.5
    """Least weight."""
    most: float = 5.0
    """Largest weight."""

    def __post_init__(self) -> None:
        for name in ("alpha", "beta"):
            require(getattr(self, name) > 0, f"{name} must be > 0, got {getattr(self, name)}")
        require(0 <= self.least <= self.most, f"least must be between 0 and most, got {self.least} and {self.most}")


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
    | LdDpoObjective
    | RediGroupsObjective
    | S2rObjective
    | OrealObjective
    | ToprObjective
    | NftObjective
    | PpoClipObjective
    | GlowObjective
)

IMITATING = frozenset({"sft", "dph"})
"""Names of those that learn from right answers alone (`sides` in `redi_ray.objectives.OBJECTIVES`)."""
UNPAIRED = frozenset({"kto", "asymre", "advantage", "redi_groups", "s2r", "glow", "topr", "oreal", "nft", "ppo_clip"})
"""Names of those that read every sequence, paired or not (the same)."""
REWARDED = frozenset({"asymre", "advantage", "s2r", "ppo_clip"})
"""Names of those that need rewards."""
SAMPLED = frozenset({"oreal", "topr", "nft", "ppo_clip"})
"""Names of those that read the sampler's log-probs, the token column `sampler_logps`."""
BY_UNIT = UNPAIRED - {"kto"} | {"sft", "dph"}
"""Names of those whose sequences may have several units."""
