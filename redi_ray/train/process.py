"""What a training asks of its own process: how much memory it took, and whether it is to stop."""

from __future__ import annotations

import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

GIB = 2**30


def peak_memory_gib(device: torch.device) -> float:
    """Highest allocation on the GPU, or this process's peak resident memory on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB


@contextmanager
def stop_on(*signals: signal.Signals) -> Iterator[Callable[[], bool]]:
    """Inside the block these signals only set a flag, which the yielded function reads: `Hooks(stop_requested=...)`.

    For plain and torchrun processes, in their main thread (Ray's workers run the loop in another thread).
    """
    received: list[int] = []
    before = {s: signal.signal(s, lambda number, frame: received.append(number)) for s in signals}
    try:
        yield lambda: bool(received)
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
