"""Baselines of spans: what spans at the same place are worth on the average, in samples of problems that are solved as often.

From S2R (NineAbyss/S2R, its offline process rewards): the reward of a segment is its value less the mean of its peers, where
there are enough of these.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from redi_ray.data.groups.scan import Grouping
from redi_ray.store import storage

Sums = dict[str, list[float]]
"""Peers -> the sum of their values, and how many they are."""


def rate_of(rate: Mapping[str, Any]) -> str | None:
    """A problem's pass rate as a fraction in lowest terms, by which problems are alike."""
    return str(Fraction(rate["correct"], rate["samples"])) if rate["samples"] else None


def peers(rate: str | None, place: int) -> str:
    """The name of spans at this place, from 0, of problems with this pass rate."""
    return f"{rate} {place}"


def add_up(sums: Sums, rate: str | None, samples: Iterable[list[float | None] | None]) -> None:
    """Add the values of samples' spans."""
    for values in samples:
        for place, value in enumerate(values or ()):
            if value is not None:
                known = sums.setdefault(peers(rate, place), [0.0, 0])
                known[0] += value
                known[1] += 1


def place_of(grouping: Grouping, partition: int) -> str:
    return grouping.work("chosen", f"{partition:05d}.baselines.json")


@dataclass(frozen=True)
class Baselines:
    """Those of all partitions."""

    sums: Sums
    least: int
    """Fewer peers have none."""

    @classmethod
    def read(cls, grouping: Grouping) -> Baselines | None:
        """None where the settings ask for none."""
        least = grouping.settings.span_baseline
        if least is None:
            return None
        sums: Sums = {}
        for partition in range(grouping.partitions):
            for name, (value, count) in storage.read_json(place_of(grouping, partition)).items():
                known = sums.setdefault(name, [0.0, 0])
                known[0] += value
                known[1] += count
        return cls(sums, least)

    def of(self, rate: str | None, place: int) -> float:
        """What is taken from a span's value."""
        value, count = self.sums.get(peers(rate, place), (0.0, 0))
        return value / count if count >= self.least else 0.0
