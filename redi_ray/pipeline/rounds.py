"""Names of repeated steps: each round of one is a step of its own, `own@2` the second of `own`."""

from __future__ import annotations

import re

from redi_ray.config.experiment import ExperimentConfig

ROUND = "@"
"""Stands between a repeated step's name and its round."""


def round_of(name: str) -> tuple[str, int | None]:
    """A step's name without its round, and that: own@2 -> (own, 2)."""
    found = re.fullmatch(rf"(.+?){ROUND}(\d+)(.*)", name)
    return (found[1] + found[3], int(found[2])) if found else (name, None)


def last_round(config: ExperimentConfig, name: str) -> str:
    """The step that a name means outside of `repeat`: of a repeated one, its last round."""
    repeat = config.repeat
    return f"{name}{ROUND}{repeat.times}" if repeat is not None and name in repeat.steps else name


def written(name: str) -> str:
    """The name of a step as `steps` has it, whatever the round."""
    return round_of(name)[0]
