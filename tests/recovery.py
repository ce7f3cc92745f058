"""How long recovery takes, printed for the fault matrix (`pytest -s`; tests/faults/README.md)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


def tell_recovery(fault: str, since: float) -> None:
    """Print the seconds since the fault, whose time is that of `time.monotonic()`."""
    print(f"recovery: {time.monotonic() - since:.0f} s after {fault}")


@contextmanager
def recovering(fault: str) -> Iterator[None]:
    """The same for a block that begins when the fault has just happened."""
    since = time.monotonic()
    yield
    tell_recovery(fault, since)
