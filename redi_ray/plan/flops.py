"""Floating-point operations of training and of scoring.

Of one sequence of S tokens, T of them scored, through L layers of N_l parameters, head of V x d, attention width a:

    forward     2 L N_l S  +  2 V d T  +  2 L a S^2
    backward    twice that
    recompute   with gradient checkpointing, the layers' forward once more but for the MLP's last product: torch stops at the
                last tensor that is needed (without that it would be 8 N); the head is not checkpointed

So about 6 N a token, 7.2 N with checkpointing for Qwen2.5-1.5B, plus 6 (8) L a S for causal attention: half of the S x S
products are needed, and flash kernels skip the others. With adapters the frozen weights have no gradient of their own:
backward once, not twice.
Left out: norms, activations, the optimizer (below 1%), and what a fused attention backward recomputes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from redi_ray.plan.shapes import ModelShape


@dataclass(frozen=True)
class Flops:
    """Operations of some work."""

    model: float
    """What the mathematics needs: the MFU's numerator."""
    hardware: float
    """With recomputation and extra scoring passes: what takes time."""

    def __add__(self, other: Flops) -> Flops:
        return Flops(self.model + other.model, self.hardware + other.hardware)

    def times(self, count: float) -> Flops:
        return Flops(self.model * count, self.hardware * count)


@dataclass(frozen=True)
class Forward:
    """Means over sequences of one forward pass, in its parts."""

    layers: float
    attention: float
    head: float
    last_product: float
    """Of the layers' work, the MLP's last product."""

    @property
    def total(self) -> float:
        return self.layers + self.attention + self.head


def forward(shape: ModelShape, lengths: np.ndarray, scored: float) -> Forward:
    """Of sequences of `lengths[n]` tokens, `scored` of them on the average."""
    return Forward(
        layers=2.0 * shape.num_layers * shape.layer_parameters * float(lengths.mean()),
        attention=2.0 * shape.num_layers * shape.query_size * float((lengths**2).mean()),
        head=2.0 * shape.embedding_parameters * scored,
        last_product=2.0 * shape.num_layers * shape.intermediate_size * shape.hidden_size * float(lengths.mean()),
    )


def training(
    shape: ModelShape, lengths: np.ndarray, scored: float, *, checkpointing: bool, adapters: bool = False
) -> Flops:
    """Of one sequence on the average, forward and backward."""
    once = forward(shape, lengths, scored)
    weights = 1.0 if adapters else 2.0  # frozen matrices pass a gradient on and take none
    model = once.total + weights * (once.layers + once.head) + 2.0 * once.attention
    again = once.layers + once.attention - once.last_product
    return Flops(model, model + (again if checkpointing else 0.0))


def scoring(shape: ModelShape, lengths: np.ndarray, scored: float) -> Flops:
    """Of one sequence on the average, forward only."""
    total = forward(shape, lengths, scored).total
    return Flops(total, total)
