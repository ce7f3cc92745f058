"""What a step shows of its work: a bar on a terminal, one below the other where several run; lines in a log.

A bar's label names its step, so that two of a kind are told apart.
"""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

SECONDS_PER_LINE = 10.0
"""In a log, at most so often."""


class _Lines(tqdm):
    """A bar where there is no terminal: whole lines, so that those of two bars do not overwrite each other."""

    said, shown = 0.0, -1.0
    """When the last line was written, and how much was done then."""

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Write a line, unless the last one is recent."""
        if time.monotonic() - self.said >= SECONDS_PER_LINE:
            self._say()
        return True

    def close(self) -> None:
        """Write the last line."""
        if self.n != self.shown:
            self._say()

    def _say(self) -> None:
        self.said, self.shown = time.monotonic(), self.n
        self.fp.write(f"{self}\n")
        self.fp.flush()


def terminal_bar(label: str, total: int | None, unit: str) -> tqdm:
    """A bar on stderr, without a total a counter."""
    kind = tqdm if sys.stderr.isatty() else _Lines
    return kind(total=total, desc=label, unit=f" {unit}", file=sys.stderr, dynamic_ncols=True, mininterval=0.5)


def label_of(work: str, step: str) -> str:
    """Of a bar: what is done, and for a named step which that is."""
    return f"{work} {step}" if step else work


class WorkBar:
    """A bar for work counted in `unit`, with a rate of tokens where they are known."""

    def __init__(self, label: str, total: int, unit: str) -> None:
        self.tokens, self.started = 0, time.monotonic()
        self.bar = terminal_bar(label, total, unit)

    def __call__(self, done: int, tokens: int = 0) -> None:
        self.tokens += tokens
        if self.tokens:
            rate = self.tokens / (time.monotonic() - self.started)
            self.bar.set_postfix_str(f"{rate:,.0f} tok/s", refresh=False)
        self.bar.update(done)

    def set_total(self, total: int) -> None:
        """For work whose size shows late."""
        self.bar.total = total

    def __enter__(self) -> WorkBar:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
