"""What a run of sampling shows while it goes on: a bar on a terminal, a line a minute in a log."""

from __future__ import annotations

import sys
import time

from redi_ray.cluster.notify import duration
from redi_ray.cluster.runtime import log
from redi_ray.data.sample.samples import SampleStats
from redi_ray.stages.bars import Bar, Pace

SECONDS_PER_LINE = 60.0


class LiveCounters:
    """Called with what each shard adds; see `redi_ray.data.sample.samples.Progress`. The total grows with every round."""

    def __init__(self, num_problems: int, label: str = "generate", seconds_per_line: float = SECONDS_PER_LINE) -> None:
        self.label = label
        self.num_problems, self.seconds_per_line = num_problems, seconds_per_line
        self.sum = SampleStats()
        self._said = time.monotonic()
        self._pace, self._tokens = Pace(), Pace()
        self._drawn = 0
        self._bar = Bar(
            desc=label, unit=" traces", file=sys.stderr, dynamic_ncols=True, mininterval=0.5,
            disable=not sys.stderr.isatty(),
        )  # fmt: skip

    def __call__(self, added: SampleStats) -> None:
        self.sum += added
        self._drawn += 0 if added.resumed else added.tokens
        self._tokens.note(self._drawn)
        self._bar.total = self.sum.asked
        self._bar.set_postfix_str(self.counters(), refresh=False)
        found = added.traces if added.resumed else 0
        self._bar.found(found)
        self._bar.update(added.traces - found)
        self._pace.found(found)
        self._pace.note(self.sum.traces)
        if self._bar.disable and time.monotonic() - self._said >= self.seconds_per_line:
            self._said = time.monotonic()
            left = self._pace.left(self.sum.traces, self.sum.asked)
            told = "" if left is None else f" about {duration(left)} left of this round,"
            log.info("%s: %d of %d traces,%s %s", self.label, self.sum.traces, self.sum.asked, told, self.counters())

    def counters(self) -> str:
        """Such as `round 1, 1,840 tok/s, 61.2% correct, solved 112 of 200, 3.1% cut off, 1.0% loops`."""
        now, shown = self.sum, [f"round {max(0, self.sum.rounds - 1)}"]
        if rate := self._tokens.rate():
            shown.append(f"{rate:,.0f} tok/s")
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
