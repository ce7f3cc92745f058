"""Settings of the objectives on values: they train a scalar head in place of the language-model head.

Standard library only, like `redi_ray.config.objectives`. The losses themselves are in `redi_ray.objectives.values`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from redi_ray.config.strict import STRICT, require


@dataclass(frozen=True, kw_only=True)
class ValueHead:
    """What every objective on values says of the head."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    head_init: Literal["zero", "normal"] = "zero"
    """The head's weights where the training starts from a language model: all 0, so that every value is 0 at first, or normal
    with variance 1 / (d + 1), d being the hidden size. One that starts from a reward model keeps its head."""
    head_seed: int = 0
    """Of `normal`."""
    head_learning_rate: float = 1.0
    """Factor on the learning rate for the head alone."""

    def __post_init__(self) -> None:
        require(self.head_learning_rate > 0, f"head_learning_rate must be > 0, got {self.head_learning_rate}")


@dataclass(frozen=True, kw_only=True)
class BradleyTerryObjective(ValueHead):
    """A reward model on pairs: `-log sigmoid(v_w - v_l - margin)`, v the value at the last token."""

    name: Literal["bradley_terry"] = "bradley_terry"
    margin: float = 0.0
    """How far the chosen value should be above the rejected one (Llama 2, arXiv 2307.09288)."""
    centre: float = 0.0
    """Weight of `(v_w + v_l)^2`, which holds values around 0 (arXiv 2312.09244); pairs alone leave their level open."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(math.isfinite(self.margin), f"margin must be a finite number, got {self.margin}")
        require(self.centre >= 0, f"centre must be >= 0, got {self.centre}")


@dataclass(frozen=True, kw_only=True)
class OutcomeBceObjective(ValueHead):
    """An outcome reward model: cross-entropy of sigmoid(v), v the value at the last token, with the side; paired or not."""

    name: Literal["outcome_bce"] = "outcome_bce"


@dataclass(frozen=True, kw_only=True)
class OrealRmObjective(ValueHead):
    """OREAL's token reward model (arXiv 2502.06781): cross-entropy of sigmoid(mean of v over the tokens) with the side."""

    name: Literal["oreal_rm"] = "oreal_rm"


@dataclass(frozen=True, kw_only=True)
class StepBceObjective(ValueHead):
    """A process reward model: cross-entropy of sigmoid(v), v at a step's last token, with the step's reward in [0, 1]."""

    name: Literal["step_bce"] = "step_bce"
    normalization: Literal["unit_mean", "sequence_mean"] = "unit_mean"
    """The mean over all steps of the batch, or over each sequence's steps and then over the sequences."""


@dataclass(frozen=True, kw_only=True)
class StepMseObjective(ValueHead):
    """The same by squares: `(v - reward)^2`, v as it is."""

    name: Literal["step_mse"] = "step_mse"
    normalization: Literal["unit_mean", "sequence_mean"] = "unit_mean"
    """The mean over all steps of the batch, or over each sequence's steps and then over the sequences."""


ValueObjective = BradleyTerryObjective | OutcomeBceObjective | OrealRmObjective | StepBceObjective | StepMseObjective
VALUED = frozenset({"bradley_terry", "outcome_bce", "oreal_rm", "step_bce", "step_mse"})
"""Names of those that read values (`reads` in `redi_ray.objectives.OBJECTIVES`): what they train is a reward model."""
AT_LAST = frozenset({"bradley_terry", "outcome_bce", "step_bce", "step_mse"})
"""Of these the ones that read a single value of each unit, that of its last scored token."""
SHARES = frozenset({"step_bce"})
"""Of these the ones that learn rewards between 0 and 1 (`reward_range`)."""
