"""How many sequences, and how many tokens a step, an engine's scheduler takes where nobody says.

The values are those that vLLM's own offline class (`vllm.LLM`), which our engines are, takes on each device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class SchedulerLimits:
    """vLLM's `max_num_seqs` and `max_num_batched_tokens`."""

    sequences: int
    tokens: int
    """In one step, over all sequences."""


ON_CPU = SchedulerLimits(256, 4096)
ON_GPU = SchedulerLimits(256, 8192)
ON_LARGE_GPU = SchedulerLimits(1024, 16384)
LARGE_GIB = 70
"""Memory from which a GPU is a large one, A100s excepted."""
LARGE_TYPES = ("H100", "H200", "H20", "H800", "GH200", "B200", "B300", "GB200", "GB300")
"""Of those, the names that Ray labels nodes with."""


def gpu_limits(name: str, memory_gib: float) -> SchedulerLimits:
    """Of a GPU by its name and memory."""
    large = memory_gib >= 160 or (memory_gib >= LARGE_GIB and "a100" not in name.lower())
    return ON_LARGE_GPU if large else ON_GPU


def labelled_limits(types: set[str]) -> SchedulerLimits:
    """Of GPUs by Ray's accelerator types: the largest, which is also taken where nothing is known."""
    large = not types or any(name.startswith(LARGE_TYPES) for name in types)
    return ON_LARGE_GPU if large else ON_GPU


def limits_in_force(
    device: SchedulerLimits, engine_kwargs: Mapping[str, Any], max_model_len: int | None, chunked: bool
) -> SchedulerLimits:
    """What the scheduler makes of the device's limits and the user's `engine_kwargs`, which win, as vLLM does it.

    max_model_len: null where it is the model's and not known here. chunked: whether prompts may be read in parts.
    """
    sequences, tokens = engine_kwargs.get("max_num_seqs"), engine_kwargs.get("max_num_batched_tokens")
    times = 2 if engine_kwargs.get("performance_mode") == "throughput" else 1
    most = sequences or times * device.sequences
    if tokens is None:
        tokens = times * device.tokens
        if max_model_len is not None:
            tokens = tokens if chunked else max(tokens, max_model_len)
            tokens = min(tokens, most * max_model_len)
    return SchedulerLimits(sequences or min(most, tokens), tokens)
