"""What a step shows of its work: a bar on a terminal, one below the other where several run; lines in a log.

A bar's label names its step, so that two of a kind are told apart. Rate and time left are those of the work at hand (`Pace`).
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

SECONDS_PER_LINE = 10.0
"""In a log, at most so often."""
LEAST_WINDOW = 60.0
"""Seconds that a rate is taken over, at least, once there are so many."""
WINDOW_SHARE = 0.25
"""The same as a share of the time so far."""


class Pace:
    """How fast work goes now, and so how long the rest takes.

    The mean since the start is neither: engines take minutes to start, what an earlier attempt has left counts at once, and a
    cluster grows and shrinks. Here what was found done does not count; the time before the first progress does only until there
    is a second one; and then the last minute does, or the last quarter of the time if that is longer. Progress that comes in
    lumps, such as shards, is measured from lump to lump.
    """

    def __init__(self, done: float = 0, clock: Callable[[], float] = time.monotonic) -> None:
        """done: what is found done."""
        self.clock, self.started = clock, clock()
        self._seen = deque([(self.started, done)])  # (when, how much was done by then)
        self._first = True

    def found(self, done: float) -> None:
        """So much more turns out to be done already."""
        self._seen = deque((when, there + done) for when, there in self._seen)

    def note(self, done: float) -> None:
        """So much is done now."""
        now = self.clock()
        if done <= self._seen[-1][1]:
            return
        self._seen.append((now, done))
        if self._first and len(self._seen) > 2:  # what came before the first progress was no work
            self._seen.popleft()
            self._first = False
        reach = now - max(LEAST_WINDOW, WINDOW_SHARE * (now - self.started))
        while len(self._seen) > 2 and self._seen[1][0] <= reach:
            self._seen.popleft()

    def rate(self) -> float | None:
        """Per second; None before there is any progress. Where nothing has come for longer than what the rate is taken over, it
        sinks."""
        (then, before), (latest, done) = self._seen[0], self._seen[-1]
        if done <= before:
            return None
        silent = self.clock() - latest
        span = latest - then
        return (done - before) / max(span if silent <= span else span + silent, 1e-3)

    def left(self, done: float, total: float | None) -> float | None:
        """Seconds until `total`; None where that cannot be said."""
        rate = self.rate()
        return None if total is None or not rate else max(0.0, total - done) / rate


class Bar(tqdm):
    """A bar on a terminal whose rate and time left are its pace's."""

    pace: Pace

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.pace = Pace(kwargs.get("initial", 0))
        super().__init__(*args, **kwargs)

    def update(self, n: float | None = 1) -> bool | None:
        """So much more is done."""
        self.pace.note(self.n + (n or 0))
        return super().update(n)

    def found(self, done: float) -> None:
        """So much more turns out to be done already: it counts, but not in the rate."""
        if self.disable:
            return
        self.pace.found(done)
        self.initial += done
        self.n += done
        self.refresh()

    @property
    def format_dict(self) -> dict[str, Any]:
        """What the line is made of."""
        return {**super().format_dict, "rate": self.pace.rate()}


class _Lines(Bar):
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


def terminal_bar(label: str, total: int | None, unit: str, *, found: int = 0) -> Bar:
    """A bar on stderr, without a total a counter. found: what is done already."""
    kind = Bar if sys.stderr.isatty() else _Lines
    return kind(
        total=total, desc=label, unit=f" {unit}", file=sys.stderr, dynamic_ncols=True, mininterval=0.5, initial=found
    )


def label_of(work: str, step: str) -> str:
    """Of a bar: what is done, and for a named step which that is."""
    return f"{work} {step}" if step else work


class WorkBar:
    """A bar for work counted in `unit`, with a rate of tokens where they are known."""

    def __init__(self, label: str, total: int, unit: str) -> None:
        self.tokens = Pace()
        self.counted = 0
        self.bar = terminal_bar(label, total, unit)

    def __call__(self, done: int, tokens: int = 0, found: int = 0) -> None:
        """`done` more, `found` of which an earlier attempt has left; `tokens` are those of the others."""
        if tokens:
            self.counted += tokens
            self.tokens.note(self.counted)
        if rate := self.tokens.rate():
            self.bar.set_postfix_str(f"{rate:,.0f} tok/s", refresh=False)
        if found:
            self.bar.found(found)
        self.bar.update(done - found)

    def set_total(self, total: int) -> None:
        """For work whose size shows late."""
        self.bar.total = total

    def __enter__(self) -> WorkBar:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
