"""What an objective declares of itself. No torch: whoever only asks what a training needs does without its load."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

    from redi_ray.objectives.base import Metrics, Scores, Tokens

Psi: TypeAlias = "Callable[[Scores, Any, float], tuple[Tensor, Metrics]]"
"""`psi(scores, settings, progress) -> (loss[], metrics)`; `progress` in [0, 1) is step / total steps."""
Phi: TypeAlias = "Callable[[Tokens, Any, float], Tensor]"
"""`phi(tokens, settings, progress) -> [n]`, one term of the loss per token; its normalisation is in the terms."""


@dataclass(frozen=True)
class Function:
    """A function of one of this package's modules, which is imported at the first call: it loads torch."""

    module: str
    name: str

    def __call__(self, *arguments: Any) -> Any:
        return getattr(import_module(f"redi_ray.objectives.{self.module}"), self.name)(*arguments)


def always(_settings: Any) -> bool:
    return True


def never(_settings: Any) -> bool:
    return False


def no_columns(_settings: Any) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True)
class ObjectiveSpec:
    """What the trainer must know of an objective before it can run it."""

    psi: Psi
    """The loss of the global batch as a function of its scores; differentiable with respect to `scores.logps`."""
    sides: Literal["chosen", "pairs", "any"]
    """Sequences it reads: the chosen ones only, both sides of every pair, or every sequence whether paired or not."""
    needs_reference: bool
    """Whether the sequences must carry reference log-probs."""
    linear: Callable[[Any], bool]
    """Whether, under these settings, psi is linear in the log-probs: its token weights are then known before the
    forward pass, and one fused pass is enough. The pointwise part has no say in it."""
    needs_mismatched: Callable[[Any], bool] = never
    """Whether, under these settings, the mismatched sequences must be scored too."""
    pointwise: Phi | None = None
    """What the loss has beside psi: the sum of these terms over the scored tokens of the global batch. Their derivatives
    are taken inside the fused pass, so they cost no pass of their own."""
    columns: Callable[[Any], tuple[str, ...]] = no_columns
    """Token columns that the pointwise part reads, under these settings, beside the reference's log-probs."""
    per_unit: Callable[[Scores, Any], Tensor] | None = None
    """`(scores, settings) -> [U]`: a number for each unit that the pointwise part reads, such as an advantage; of what the
    data say of the batch, since no log-prob is known yet."""
    soft: Callable[[Scores, Any], Tensor] | None = None
    """`(scores, settings) -> [U]`: what the loss has of the divergences of each unit's tokens from the teacher's distributions,
    which are the token column `soft_targets`; of what the data say of the batch. None where none are read."""
    sums: Callable[[Any], tuple[str, ...]] = no_columns
    """Token columns whose weighted sums psi or `per_unit` reads (`Scores.sums`), under these settings."""
    tail: Callable[[Any], float] | None = None
    """Under these settings, the factor on the weights of those tokens of a pair's longer side that lie beyond the length of the
    shorter one (`redi_ray.train.tails`)."""
    needs_rewards: Callable[[Any], bool] = never
    """Whether, under these settings, every unit must have a reward."""
    compares_rewards: Callable[[Any], bool] = never
    """Whether, under these settings, only differences of rewards within a group count."""
    compares_sides: bool = False
    """Whether only groups with both sides count."""
    several_units: bool = False
    """Whether sequences may have several units. Without it a score is a sequence's."""
    reads: Literal["logps", "values"] = "logps"
    """What stands where others have log-probs: `values` are those of a scalar head, v_t at the scored token itself, and what is
    trained is a reward model."""
    at_last: bool = False
    """Of one on values: whether the last scored token of a unit alone counts."""
    link: Literal["identity", "sigmoid"] = "identity"
    """Of one on values: what makes of a value what it stands for, which a column of scores then holds."""
    reward_range: tuple[float, float] | None = None
    """The rewards that make sense, both ends included."""
