"""Weights that fade: tokens of a pair's longer side, beyond the length of the shorter one, weigh less (LD-DPO)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from redi_ray.train.sequences import SequenceStore


@dataclass(frozen=True)
class Tails:
    """What sequences' last scored tokens weigh."""

    begin: Mapping[int, int]
    """Sequence -> how many of its scored tokens come before its tail; one that is not named has none."""
    factor: float
    """On the weights of a tail's tokens; with 0 they are left alone."""

    def weighed(self, sequence: int, weights: np.ndarray) -> np.ndarray:
        """The sequence's `weights[T]`, float64 where it has a tail."""
        tail = np.flatnonzero(weights)[self.begin.get(sequence, len(weights)) :]
        if not len(tail):
            return weights
        found = weights.astype(np.float64)
        found[tail] *= self.factor
        return found


def common_lengths(store: SequenceStore, groups: np.ndarray, factor: float) -> Tails:
    """Tails of the groups' sequences: what is longer than the shortest one of its group, in scored tokens."""
    begin: dict[int, int] = {}
    for group in groups.tolist():
        members = store.sequences_of_group(group)
        common = int(store.scored[members].min())
        begin |= dict.fromkeys(members, common)
    return Tails(begin, factor)
