"""What a run of sampling shows while it goes on: a bar on a terminal, a line a minute in a log."""

from __future__ import annotations

import sys
import time
from collections import deque

from tqdm import tqdm

from redi_ray.cluster.runtime import log
from redi_ray.data.sample.samples import SampleStats

SECONDS_PER_LINE = 60.0
RATE_SECONDS = 60.0
"""What the rate of tokens is taken over."""


class LiveCounters:
    """Called with what each shard adds; see `redi_ray.data.sample.samples.Progress`. The total grows with every round."""

    def __init__(self, num_problems: int, label: str = "generate", seconds_per_line: float = SECONDS_PER_LINE) -> None:
        self.label = label
        self.num_problems, self.seconds_per_line = num_problems, seconds_per_line
        self.sum = SampleStats()
        self._said = time.monotonic()
        self._drawn = deque([(self._said, 0)])  # (when, tokens drawn by then), of the last minute
        self._bar = tqdm(
            desc=label, unit=" traces", file=sys.stderr, dynamic_ncols=True, mininterval=0.5,
            disable=not sys.stderr.isatty(),
        )  # fmt: skip

    def __call__(self, added: SampleStats) -> None:
        self.sum += added
        self._note(0 if added.resumed else added.tokens)
        self._bar.total = self.sum.asked
        self._bar.set_postfix_str(self.counters(), refresh=False)
        self._bar.update(added.traces)
        if self._bar.disable and time.monotonic() - self._said >= self.seconds_per_line:
            self._said = time.monotonic()
            log.info("%s: %d of %d traces, %s", self.label, self.sum.traces, self.sum.asked, self.counters())

    def _note(self, tokens: int) -> None:
        now = time.monotonic()
        self._drawn.append((now, self._drawn[-1][1] + tokens))
        while len(self._drawn) > 2 and self._drawn[0][0] < now - RATE_SECONDS:
            self._drawn.popleft()

    def counters(self) -> str:
        """Such as `round 1, 1,840 tok/s, 61.2% correct, solved 112 of 200, 3.1% cut off, 1.0% loops`."""
        now, shown = self.sum, [f"round {max(0, self.sum.rounds - 1)}"]
        (then, before), (latest, drawn) = self._drawn[0], self._drawn[-1]
        if drawn > before:
            shown.append(f"{(drawn - before) / (latest - then):,.0f} tok/s")
        if now.verified:
            shown.append(f"{now.correct / now.verified:.1%} correct")
        shown.append(f"solved {now.solved} of {self.num_problems}")
        if now.traces:
            shown += [f"{now.truncated / now.traces:.1%} cut off", f"{now.loops / now.traces:.1%} loops"]
        if rejected := sum(now.rejected.values()):
            shown.append(f"{rejected} rejected")
        return ", ".join(shown)

    def __enter__(self) -> LiveCounters:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
