"""Sets of ids as 64-bit hashes: 8 bytes an id, so that the driver can know a corpus of millions without holding it.

Two of a million ids share a hash with a probability of 3e-8; one of the two would then count as the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]


def hash_ids(ids: Iterable[str]) -> Hashes:
    """uint64[num_ids], the same on every machine."""
    digests = b"".join(hashlib.blake2b(value.encode(), digest_size=8).digest() for value in ids)
    return np.frombuffer(digests, dtype=np.uint64)


def contained(hashes: Hashes, known: Hashes) -> NDArray[np.bool_]:
    """bool[len(hashes)]: which of them are in `known`, the sorted hashes of an IdSet."""
    if not len(known):
        return np.zeros(len(hashes), bool)
    return known[np.minimum(np.searchsorted(known, hashes), len(known) - 1)] == hashes


class IdSet:
    """A growing set of hashes, kept sorted."""

    def __init__(self, hashes: Hashes | None = None) -> None:
        self.hashes: Hashes = np.unique(hashes) if hashes is not None else np.empty(0, np.uint64)

    def add(self, hashes: Hashes) -> int:
        """Take up `hashes`; returns how many of them were new."""
        fresh = np.unique(hashes)
        fresh = fresh[~self.contains(fresh)]
        self.hashes = np.insert(self.hashes, np.searchsorted(self.hashes, fresh), fresh)
        return len(fresh)

    def contains(self, hashes: Hashes) -> NDArray[np.bool_]:
        """bool[len(hashes)]"""
        return contained(hashes, self.hashes)

    def __len__(self) -> int:
        return len(self.hashes)
