"""Points of a search's space, and their names."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from redi_ray.config.search import Cases, Domain, Listed, LogUniform, Uniform

Values = Mapping[str, Any]
"""A point: dotted path -> value, or of cases the name they have together -> the name of one."""

TRIES_PER_POINT = 100
"""Draws until a space of a few values is taken to be used up."""
SIGNIFICANT_DIGITS = 4
"""Of drawn numbers: more would only make names long."""


def settings_at(space: Mapping[str, Domain], values: Values) -> dict[str, Any]:
    """What a point sets in the config: dotted path -> value."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        domain = space[name]
        found |= domain.cases[value] if isinstance(domain, Cases) else {name: value}
    return found


def grid_points(space: Mapping[str, Domain]) -> Iterator[dict[str, Any]]:
    """Every combination, the last path varying fastest."""
    values = [domain.values if isinstance(domain, Listed) else [] for domain in space.values()]
    for combination in itertools.product(*values):
        yield dict(zip(space, combination, strict=True))


def drawn_points(space: Mapping[str, Domain], count: int, seed: int) -> Iterator[dict[str, Any]]:
    """`count` independent points, none twice, fewer if the space has no more; a larger count begins with the same ones."""
    generator, seen = random.Random(seed), set[str]()
    for _ in range(count * TRIES_PER_POINT):
        point = {path: draw(domain, generator) for path, domain in space.items()}
        if (name := json.dumps(point, sort_keys=True)) not in seen:
            seen.add(name)
            yield point
        if len(seen) == count:
            return


def draw(domain: Domain, generator: random.Random) -> Any:
    if isinstance(domain, Listed):
        return generator.choice(domain.values)
    if isinstance(domain, Uniform):
        (low, high), value = domain.uniform, generator.uniform(*domain.uniform)
    else:
        low, high = domain.loguniform
        value = math.exp(generator.uniform(math.log(low), math.log(high)))
    return min(high, max(low, float(f"{value:.{SIGNIFICANT_DIGITS}g}")))


def sample_values(domain: Domain) -> list[Any]:
    """Values that stand for a domain: all, or both ends."""
    if isinstance(domain, Listed):
        return list(domain.values)
    return list(domain.loguniform if isinstance(domain, LogUniform) else domain.uniform)


def describe(values: Values) -> str:
    """Such as `alpha=0.8 learning_rate=1e-05`: paths by their shortest end that tells them apart."""
    return " ".join(f"{name}={show(value)}" for name, value in zip(short_names(values), values.values(), strict=True))


def short_names(paths: Iterable[str]) -> list[str]:
    """The last part of each path, or more where several end alike.

    Example: [a.lr, b.lr, b.seed] -> [a.lr, b.lr, seed].
    """
    parts = [path.split(".") for path in paths]
    names = []
    for mine in parts:
        length = 1
        while length < len(mine) and sum(other[-length:] == mine[-length:] for other in parts) > 1:
            length += 1
        names.append(".".join(mine[-length:]))
    return names


def show(value: Any) -> str:
    """A value as names and axes have it."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {show(item)}" for name, item in value.items()) + "}"
    return str(value)


def unknown_section(raw: Mapping[str, Any], path: str) -> str | None:
    """What is wrong with a path whose sections are not all in the resolved config; its last part is left to validation.

    An override may make a new section; a search must not, or a slip of the pen would tune an arm that nobody trains.
    """
    parts = path.split(".")
    if len(parts) == 1:
        return f"{path}: a whole section or a name cannot be searched; write a dotted path"
    node: Any = raw
    for depth, part in enumerate(parts[:-1]):
        at = ".".join(parts[:depth]) or "the config"
        if not isinstance(node, Mapping):
            return (
                f"{path}: {at} is {'null; give it in the config first' if node is None else 'a value, not a section'}"
            )
        if part not in node:
            return f"{path}: no section {part!r}; {at} has {', '.join(node)}"
        node = node[part]
    if not isinstance(node, Mapping):
        at = ".".join(parts[:-1])
        return f"{path}: {at} is {'null; give it in the config first' if node is None else 'a value, not a section'}"
    return None
