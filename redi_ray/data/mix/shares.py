"""How many problems of each source make a mixture: shares of its size by weights, under caps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace

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
    elif settings.size is not None and sum(taken.values()) < settings.size and settings.caps:
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
    """`size` problems by weights, none above its cap, in whole numbers by Webster's rule (Sainte-Lague): each goes to the source
    with the smallest (count + 1/2) / weight, of equal ones to that which stands first. So a larger size takes no fewer of any
    source. Fewer than `size` only where all are capped."""
    heaviest = max(weights.values(), default=0.0)
    parts = {name: weight / heaviest for name, weight in weights.items() if weight / (heaviest or 1.0) > 0}
    room = {name: min(size, caps.get(name, size)) for name in parts}

    def counts_at(level: float) -> Counts:
        return {name: min(room[name], int(min(level * part, 2.0 * size) + 0.5)) for name, part in parts.items()}

    low, high = 0.0, (size + 1) / min(parts.values(), default=1.0)
    for _ in range(100 if parts else 0):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(counts_at(middle).values()) <= size else (low, middle)
    found = counts_at(low * (1 - 1e-9))  # a few short, which are given one by one
    order = [((found[name] + 0.5) / parts[name], at, name) for at, name in enumerate(parts) if found[name] < room[name]]
    heapify(order)
    for _ in range(size - sum(found.values())):
        if not order:
            break
        _, at, name = order[0]
        found[name] += 1
        if found[name] < room[name]:
            heapreplace(order, ((found[name] + 0.5) / parts[name], at, name))
        else:
            heappop(order)
    return dict.fromkeys(weights, 0) | found


def _fitting(settings: MixSettings, rows: Mapping[str, int], there: Counts, asked: Counts) -> str:
    weights: dict[str, float] = dict(settings.weights) or {name: float(there[name]) for name in settings.of}
    most = largest(weights, settings.caps, there)
    ways = [f"`size: {most}`"] if most else []
    short = [name for name in settings.of if there[name] < asked[name]]
    if all(rows[name] for name in short):
        epochs = ", ".join(f"{name}: {-(-asked[name] // rows[name])}" for name in short)
        ways.append(f"`epochs: {{{epochs}}}`")
    caps = ", ".join(f"{name}: {there[name]}" for name in short if there[name])
    ways += (
        [f"`caps: {{{caps}}}`, which takes the rest of the others"] if caps and len(short) < len(settings.of) else []
    )
    return f"{', '.join(ways)}, or `when_short: less`"
