"""What a step measured, the same on every rank."""

from __future__ import annotations

from dataclasses import dataclass

import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class StepResult:
    """What a step measured; the same on every rank."""

    loss: float
    """Loss of the global batch."""
    metrics: dict[str, float]
    """`chosen_logp` and `rejected_logp`: weighted log-prob per scored token, averaged over units; `margin`: their
    difference over pairs; `pair_accuracy`: share of pairs with a positive one; `scored_tokens`, `total_tokens` of the global
    batch; `pack_fill`; `pointwise`, that part of the loss; `divergence` from a teacher; and the objective's own."""
    finite: bool
    """Whether the loss and all coefficients are finite. Every rank has the same answer."""


def sum_over_ranks(sums: Tensor, world_size: int) -> Tensor:
    """Add up `sums[U]`; every unit lives on one rank and is zero on the others."""
    if world_size > 1:
        dist.all_reduce(sums)
    return sums
