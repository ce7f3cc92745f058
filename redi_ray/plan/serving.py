"""Tokens per second of an engine, from what it must move and compute for a step of its whole batch.

A decoding step reads the weights once and the keys and values of every sequence in flight; whichever of memory and
arithmetic takes longer decides. How many sequences are in flight follows from the room for their keys and values, up to
the engine's own limit. Left out: reading prompts, which samples of one problem share, and the tail of a batch that empties.
"""

from __future__ import annotations

from dataclasses import dataclass

from redi_ray.plan.hardware import Gpu
from redi_ray.plan.shapes import ModelShape


@dataclass(frozen=True)
class Serving:
    """One replica."""

    tokens_per_second: float
    """Completion tokens, over all sequences in flight; 0 if the weights do not fit."""
    sequences: int
    """In flight on the average."""
    weights_gb: float
    """On each GPU."""
    room_gb: float
    """For keys and values, on each GPU."""
    gpus_needed: int
    """Smallest power of two of GPUs that holds the weights with room for one sequence."""


def kv_bytes(shape: ModelShape) -> float:
    """Keys and values of one token in 16 bits."""
    return 2.0 * 2 * shape.num_layers * shape.kv_size


def serving(
    shape: ModelShape,
    gpu: Gpu,
    *,
    gpus: int,
    context: float,
    longest: float,
    memory_share: float,
    efficiency: float,
    max_sequences: int,
) -> Serving:
    """A replica over `gpus` GPUs.

    Args:
        context: tokens that a sequence holds on the average while it is written.
        longest: tokens of the longest sequence.
        memory_share: of each GPU's memory that the engine may take.
        efficiency: share of peak bandwidth, and of peak arithmetic, that a step reaches.
        max_sequences: that the engine's scheduler takes at a time.
    """
    weights = 2.0 * shape.parameters
    room = gpu.memory_gb * 1e9 * memory_share
    needed = 1
    while weights / needed + longest * kv_bytes(shape) / needed > room:
        needed *= 2
    left = room * gpus - weights
    sequences = int(min(max_sequences, left / (context * kv_bytes(shape)))) if left > 0 else 0
    if sequences < 1 or gpus < needed:
        return Serving(0.0, 0, weights / gpus / 1e9, max(0.0, left / gpus / 1e9), needed)
    moved = weights + sequences * context * kv_bytes(shape)
    seconds = max(
        moved / (gpu.bandwidth_gb_s * 1e9 * gpus), 2.0 * shape.parameters * sequences / (gpu.bf16_tflops * 1e12 * gpus)
    )
    return Serving(efficiency * sequences / seconds, sequences, weights / gpus / 1e9, left / gpus / 1e9, needed)
