"""Bytes on disk: tables are zstd Parquet, token arrays plain int32 and masks, checkpoints float32 with both moments."""

from __future__ import annotations

from redi_ray.config.training import TrainSettings
from redi_ray.plan.memory import Setup

TOKEN_BYTES = 5.0
"""A token's id and mask in a sequence store."""
REFERENCE_BYTES = 4.0 + 12.0
"""A scored token's log-prob in the arrays, and in the shard before it, with its place."""


def checkpoint_bytes(setup: Setup) -> float:
    """One checkpoint: trained weights and their two moments."""
    return 12.0 * setup.trained


def training_bytes(setup: Setup, settings: TrainSettings) -> float:
    """What a training leaves: the newest checkpoints, and the exported model."""
    kept = settings.keep_last if settings.checkpoint_every else 1
    return kept * checkpoint_bytes(setup) + float(setup.value_bytes) * setup.shape.parameters
