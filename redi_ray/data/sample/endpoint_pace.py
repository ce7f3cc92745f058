"""How fast an endpoint is asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


class Pace:
    """At most `per_minute` units a minute, evenly spaced; as many as come if null."""

    def __init__(self, per_minute: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds_per_unit = 60 / per_minute if per_minute else 0.0
        self._clock, self._free_at, self._turn = clock, 0.0, asyncio.Lock()

    @property
    def wait(self) -> float:
        """Seconds until there is room."""
        return max(0.0, self._free_at - self._clock())

    async def take(self, units: float) -> None:
        """Wait until there is room, then use it. Those who wait are served in turn."""
        async with self._turn:
            while self.wait:
                await asyncio.sleep(min(self.wait, 0.5))  # corrections may bring the moment forward
            self.count(units)

    def count(self, units: float) -> None:
        """Use up so many units; negative ones are given back."""
        self._free_at = max(self._free_at, self._clock()) + units * self.seconds_per_unit

    def hold(self, seconds: float) -> None:
        """Let nobody through for so long."""
        self._free_at = max(self._free_at, self._clock() + seconds)
