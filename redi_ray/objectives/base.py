"""What every objective reads and what it declares of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class MismatchedScores:
    """Of K sequences that are no data: each the prompt of one of the batch's sequences with a completion of another group
    (`redi_ray.train.mismatched`). Constants: none of it carries a gradient."""

    logps: Tensor
    """`[K]` policy log-prob of the completion, summed over its scored tokens (nats)."""
    ref_logps: Tensor
    """`[K]` reference log-prob over the same tokens."""
    lengths: Tensor
    """`[K]` number of scored tokens, at least 1."""

    def log_ratios(self) -> Tensor:
        """`[K]` summed log-ratio to the reference."""
        return self.logps - self.ref_logps


@dataclass(frozen=True)
class Scores:
    """The global batch as an objective sees it: one number per sequence, no tokens.

    K sequences in G groups. A group is a pair (one chosen, one rejected sequence) or a single example.
    """

    logps: Tensor
    """`[K]` policy log-prob of each sequence, summed over its scored tokens (nats)."""
    lengths: Tensor
    """`[K]` number of scored tokens, at least 1: what is counted is what is scored, after shift and truncation."""
    sides: Tensor
    """`[K]` +1 chosen or desirable, -1 rejected or undesirable."""
    chosen: Tensor
    """`[G]` index of each pair's chosen sequence; empty where examples are not paired."""
    rejected: Tensor
    """`[G]` index of each pair's rejected sequence, in the same order."""
    ref_logps: Tensor | None = None
    """`[K]` reference log-prob of each sequence over the same tokens; None for objectives without a reference."""
    mismatched: MismatchedScores | None = None
    """Of the prompts with other groups' completions; None for objectives without a mismatched baseline."""

    def pairs(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """`values[K]` -> (of the chosen sides `[G]`, of the rejected sides `[G]`)."""
        return values[self.chosen], values[self.rejected]

    def mean_logps(self) -> Tensor:
        """`[K]` log-prob per scored token."""
        return self.logps / self.lengths

    def log_ratios(self) -> Tensor:
        """`[K]` summed log-ratio to the reference, `log pi(y|x) - log pi_ref(y|x)`."""
        assert self.ref_logps is not None, "an objective with a reference was given scores without one"
        return self.logps - self.ref_logps


Metrics = dict[str, Tensor]
Psi = Callable[[Scores, Any, float], tuple[Tensor, Metrics]]
"""`psi(scores, settings, progress) -> (loss[], metrics)`; `progress` in [0, 1) is step / total steps."""


def always(_settings: Any) -> bool:
    return True


def never(_settings: Any) -> bool:
    return False


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
    """Whether, under these settings, the loss is linear in the log-probs: its token weights are then known before the
    forward pass, and one fused pass is enough."""
    needs_mismatched: Callable[[Any], bool] = never
    """Whether, under these settings, the mismatched sequences must be scored too."""


def detached(values: Tensor) -> Tensor:
    """Mean of `values`, for the log."""
    return values.detach().mean() if values.numel() else torch.zeros(())
