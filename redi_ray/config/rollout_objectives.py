"""Settings of objectives on the samples of a problem, with rewards or with the log-probs of the model that sampled them, and of
rehearsal. As in `redi_ray.config.objectives`, which has the others: one frozen dataclass each, standard library only."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from redi_ray.config.strict import STRICT, require


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
class Rehearsal:
    """What a training rehearses beside what it learns, added to the loss of each step and normalised on its own."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    objective: DphObjective = field(default_factory=DphObjective)
    """On right answers of the model that training starts from."""
    batch_size: int = 16
    """Groups of each step, in an order of their own, over and over."""

    def __post_init__(self) -> None:
        require(self.batch_size >= 1, f"batch_size must be >= 1, got {self.batch_size}")


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

    LATER: ClassVar[frozenset[str]] = frozenset({"baseline"})
    """See `redi_ray.config.identity`."""

    name: Literal["oreal"] = "oreal"
    kl: float = 0.01
    """Weight of the KL."""
    negative: float = 0.5
    """Weight of the wrong samples."""
    token_rewards: bool = False
    """Weigh tokens by what a token reward model says of them, the column `reward_mean`; else all weigh 1."""
    baseline: Literal["leave_one_out", "none"] = "leave_one_out"
    """`leave_one_out`: advantages of rewards +1 and -1, the sides, over the samples of a group, which must then be all of a
    problem's. `none`: the members' rewards are advantages (`advantages: leave_one_out` of a step `groups`), of samples that were
    not kept, too; the paper's code keeps one right and one wrong sample of 16."""

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

    LATER: ClassVar[frozenset[str]] = frozenset({"rate"})
    """See `redi_ray.config.identity`."""

    name: Literal["nft"] = "nft"
    epsilon: float = 1.0
    """Least value of the implied ratio: the smaller, the harder wrong tokens that have become likelier are pushed down."""
    prompt_weight: Literal["wrong_share", "scaled", "one"] = "wrong_share"
    """Of a problem with a share q of right samples: 1 - q, sqrt((1 - q) / q), or 1."""
    least_rate: float = 0.02
    """q is held between this and 1 less it."""
    rate: Literal["group", "advantages"] = "group"
    """`group`: q is the share of a group's right ones, which must then be all of a problem's samples. `advantages`: that of
    samples that were not kept, too, by the members' rewards, which are advantages (`rewards: {correct: 1, wrong: 0}` and
    `advantages: group_mean` of a step `groups`)."""

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
