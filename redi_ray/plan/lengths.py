"""Distributions of token lengths, as arrays: sums of squares matter for attention, tails for memory."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

POINTS = 1001
"""Of a distribution that is assumed rather than measured: its quantiles at (i + 1/2) / POINTS."""


def lognormal_shape(spread: float) -> np.ndarray:
    """`[POINTS]` quantiles of a log-normal distribution with mean 1; `spread` is the sigma of the logarithm."""
    normal = NormalDist()
    z = np.array([normal.inv_cdf((i + 0.5) / POINTS) for i in range(POINTS)])
    values = np.exp(spread * z)
    return values / values.mean()


def unit_mean(lengths: np.ndarray) -> np.ndarray:
    """Measured `lengths[n]` scaled to mean 1: the form of their distribution."""
    return lengths / lengths.mean()


def dropped_above(lengths: np.ndarray, limit: float) -> np.ndarray:
    """`lengths` without those above `limit`, as curation leaves them out; the shortest one stays at the limit if all are."""
    kept = lengths[lengths <= limit]
    return kept if len(kept) else np.array([float(limit)])


def cut_at(lengths: np.ndarray, limit: float) -> np.ndarray:
    """`lengths`, none above `limit`: sampling and truncation end there."""
    return np.minimum(lengths, limit)
