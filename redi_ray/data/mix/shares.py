"""How many problems of each source make a mixture: shares of its size by weights, under caps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from redi_ray.config.mixture import MixSettings

Counts = dict[str, int]
"""Source -> problems."""


@dataclass(frozen=True)
class Allocation:
    """What is taken of each source."""

    taken: Counts
    """Problems of each, in the order of the settings; one that comes in several epochs counts as often."""
    asked: Counts
    """What the shares ask for, more than is taken where a source is short."""
    told: list[str] = field(default_factory=list)
    """Which source is short of what, and what would fit, in words."""


def allocate(settings: MixSettings, rows: Mapping[str, int]) -> Allocation:
    """The allocation for sources of so many problems. Nothing of it depends on where these lie."""
    there = {name: rows[name] * settings.epochs.get(name, 1) for name in settings.of}
    asked = _asked(settings, there)
    taken = {name: min(asked[name], there[name]) for name in settings.of}
    told = [
        f"{name} has {there[name]:,} of the {asked[name]:,} problems that its share asks for"
        for name in settings.of
        if taken[name] < asked[name]
    ]
    if told:
        told.append(f"what would fit: {_fitting(settings, rows, there, asked)}")
    elif settings.size is not None and sum(taken.values()) < settings.size:
        told = [f"caps let in {sum(taken.values()):,} of {settings.size:,} problems; raise one, or lower the size"]
    return Allocation(taken, asked, told)


def _asked(settings: MixSettings, there: Counts) -> Counts:
    weights: dict[str, float] = dict(settings.weights) or {name: float(there[name]) for name in settings.of}
    caps = settings.caps
    if settings.size is not None:
        return shares(settings.size, weights, caps)
    if not settings.weights:
        return {name: min(there[name], caps.get(name, there[name])) for name in settings.of}
    return shares(largest(weights, caps, there), weights, caps)


def largest(weights: Mapping[str, float], caps: Mapping[str, int], there: Mapping[str, int]) -> int:
    """The largest size whose shares every source has."""
    low, high = 0, sum(min(there[name], caps.get(name, there[name])) for name in weights)
    while low < high:
        middle = (low + high + 1) // 2
        if all(count <= there[name] for name, count in shares(middle, weights, caps).items()):
            low = middle
        else:
            high = middle - 1
    return low


def shares(size: int, weights: Mapping[str, float], caps: Mapping[str, int]) -> Counts:
    """`size` problems by weights; what is above a cap goes to the others by theirs. Whole numbers by largest remainders, of equal
    ones the source that stands first; fewer than `size` only where all are capped."""
    found, left, open_ = dict.fromkeys(weights, 0), size, [name for name in weights if weights[name] > 0]
    while open_:
        total = sum(weights[name] for name in open_)
        over = [name for name in open_ if name in caps and left * weights[name] / total > caps[name]]
        if not over:
            break
        for name in over:
            found[name] = caps[name]
        left -= sum(caps[name] for name in over)
        open_ = [name for name in open_ if name not in over]
    if not open_:
        return found
    total = sum(weights[name] for name in open_)
    exact = {name: left * weights[name] / total for name in open_}
    found |= {name: int(value) for name, value in exact.items()}
    rest = left - sum(found[name] for name in open_)
    for name in sorted(open_, key=lambda name: int(exact[name]) - exact[name])[:rest]:
        found[name] += 1
    return found


def _fitting(settings: MixSettings, rows: Mapping[str, int], there: Counts, asked: Counts) -> str:
    weights: dict[str, float] = dict(settings.weights) or {name: float(there[name]) for name in settings.of}
    ways = [f"`size: {largest(weights, settings.caps, there)}`"]
    short = [name for name in settings.of if there[name] < asked[name]]
    if all(rows[name] for name in short):
        epochs = ", ".join(f"{name}: {-(-asked[name] // rows[name])}" for name in short)
        ways.append(f"`epochs: {{{epochs}}}`")
    caps = ", ".join(f"{name}: {there[name]}" for name in short if there[name])
    ways += [f"`caps: {{{caps}}}`, which takes the rest of the others"] if caps else []
    return f"{', '.join(ways)}, or `when_short: less`"
