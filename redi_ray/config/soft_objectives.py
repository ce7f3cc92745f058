"""Settings of objectives on what a teacher says of each token: its distribution over the next token, or its log-prob of the one
that is there. As in `redi_ray.config.objectives`, which has the others: one frozen dataclass each, standard library only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from redi_ray.config.schedules import AlphaSchedule
from redi_ray.config.strict import STRICT, require

Rest = Literal["bucket", "renormalise"]
DivergenceName = Literal["forward_kl", "reverse_kl", "js"]
TEMPERATURES = (0.01, 100.0)
"""Beyond them the terms, which are multiplied by T^2, are rounding alone."""


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """Which distributions are compared: the teacher's `top_k` tokens of a position, with the rest of the vocabulary as one more
    outcome or without it, in the teacher's and in the student's."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    temperature: float = 1.0
    """Flattens both distributions over these outcomes, p^(1/T) normalised. The term is multiplied by T^2, as in arXiv 1503.02531,
    so that its gradient keeps its size."""
    rest: Rest = "bucket"
    """`bucket`: all other tokens together are one outcome more. `renormalise`: they are left out, and both distributions
    normalised over the teacher's top k; what the student gives to other tokens then costs nothing."""
    top_k: int | None = None
    """So many of those that the column holds, the likeliest; null takes all of them."""

    def __post_init__(self) -> None:
        lowest, highest = TEMPERATURES
        told = f"temperature must be between {lowest} and {highest:g}, got {self.temperature}"
        require(lowest <= self.temperature <= highest, told)
        least = 1 if self.rest == "bucket" else 2
        require(
            self.top_k is None or self.top_k >= least,
            f"top_k must be >= {least}, got {self.top_k}: fewer outcomes leave nothing to learn",
        )


@dataclass(frozen=True, kw_only=True)
class _Distilled(Outcomes):
    """What the objectives have that learn from the teacher's distribution on every scored token."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    normalization: Literal["token_mean", "sequence_mean"] = "token_mean"
    """As SFT's, which it is with a teacher that is sure of each token."""
    nll_weight: float = 0.0
    """Weight of SFT on the same tokens, added."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.nll_weight >= 0, f"nll_weight must be >= 0, got {self.nll_weight}")


@dataclass(frozen=True, kw_only=True)
class ForwardKlObjective(_Distilled):
    """Knowledge distillation (arXiv 1503.02531; of sequences 1606.07947): KL(teacher || student) at each token. Covers all that
    the teacher may say. Needs the column `soft_targets`."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: Literal["forward_kl"] = "forward_kl"


@dataclass(frozen=True, kw_only=True)
class ReverseKlObjective(_Distilled):
    """KL(student || teacher) at each token, as MiniLLM's (arXiv 2306.08543) for single tokens: says nothing that the teacher
    would not. Needs the column `soft_targets`."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: Literal["reverse_kl"] = "reverse_kl"


@dataclass(frozen=True, kw_only=True)
class JsObjective(_Distilled):
    """The generalised Jensen-Shannon divergence of GKD (arXiv 2306.13649) at each token, between the two KLs. On samples of the
    student, scored by the teacher, it is GKD on the policy. Needs the column `soft_targets`."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: Literal["js"] = "js"
    beta: float = 0.5
    """Share of the teacher in the mixture: towards 0 it is `beta` times the forward KL, towards 1 `1 - beta` times the reverse
    one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_beta(self.beta)


@dataclass(frozen=True, kw_only=True)
class SoftRediObjective(Outcomes):
    """REDI (arXiv 2505.24850) with soft positives: a divergence from the teacher on the chosen side, in place of its log-prob,
    and the same signed term on the rejected one. Needs the column `soft_targets` on the chosen side. Derived, in no paper."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: Literal["soft_redi"] = "soft_redi"
    divergence: DivergenceName = "forward_kl"
    """As the objectives of these names."""
    beta: float = 0.5
    """Of `js`."""
    alpha: float = 0.8
    """Negative weight, as REDI's."""
    schedule: AlphaSchedule = field(default_factory=AlphaSchedule)
    """Moves alpha over the run."""
    nll_weight: float = 0.0
    """Weight of the length-normalised NLL of the chosen side, added; 1 beside the divergence is REDI with a soft target more."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_beta(self.beta)
        told = f"beta is of js alone, and divergence is {self.divergence}, which does not read it: leave it out"
        require(self.divergence == "js" or self.beta == SoftRediObjective.beta, told)
        for name in ("alpha", "nll_weight"):
            require(getattr(self, name) >= 0, f"{name} must be >= 0, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class OnPolicyDistillationObjective:
    """On-policy distillation in its offline form (arXiv 2604.13010): the student's own samples, each token weighted with its
    advantage, the teacher's log-prob less the student's. Needs the column `teacher_logps`."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: Literal["on_policy_distillation"] = "on_policy_distillation"
    student: Literal["sampler", "policy"] = "sampler"
    """Whose log-prob is taken from the teacher's: that of the student when it sampled (the column `sampler_logps`), with the
    ratio of the policy to it as weight, or that of the policy as it is now, with no ratio (the paper's)."""
    baseline: Literal["batch_mean", "none"] = "batch_mean"
    """With `sampler`, what is taken from the advantages: their mean over the batch's scored tokens, or nothing. On the policy it
    changes the variance alone; once the policy has moved, a weak student without it has nearly all of its tokens pushed down."""
    clip: float = 0.2
    """With `sampler`: how far the ratio counts, as PPO's."""
    most: float | None = None
    """Advantages are cut at this size (nats), on both sides; null leaves them."""

    def __post_init__(self) -> None:
        for name in ("baseline", "clip") if self.student == "policy" else ():
            told = f"{name} is of `student: sampler` alone, and `student: policy` does not read it: leave it out"
            require(getattr(self, name) == getattr(OnPolicyDistillationObjective, name), told)
        require(0 < self.clip < 1, f"clip must be between 0 and 1, got {self.clip}")
        require(
            self.most is None or (self.most > 0 and math.isfinite(self.most)),
            f"most must be a finite number > 0, got {self.most}",
        )


def _require_beta(beta: float) -> None:
    require(0 < beta < 1, f"beta must be between 0 and 1, got {beta}: at its ends take forward_kl or reverse_kl")


SOFT = frozenset({"forward_kl", "reverse_kl", "js", "soft_redi"})
"""Names of those that read a teacher's distributions, the token column `soft_targets`."""
