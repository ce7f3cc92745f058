"""Which texts say what an earlier one says, by their embeddings, without comparing all pairs.

The order of the rows says who stays: a row goes if it is near enough to one before it that stays (its leader), so that no chain
of small steps joins what is far apart, and the reason can name a text that is still there. What stays is kept in an inverted file
of k-means cells (faiss), and a row is compared with those in the cells nearest to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CELLS_FROM = 20_000
"""Rows from which on there are cells; fewer are compared with all that stay."""
SAMPLED = 64
"""Rows a cell that k-means learns from."""
PROBES = 8
"""Cells that a row is compared with."""
BLOCK = 1024
"""Rows at a time."""
Agree = Callable[[int, int], bool]
"""Whether two rows, by what else is known of them, may be one; asked only of rows that are near."""


@dataclass(frozen=True)
class Leaders:
    """What was found of each row: the row before it that stays, agrees with it and is nearest, and their cosine; -1 and 0 where
    none is as near as `margin`."""

    nearest: NDArray[np.int64]
    cosine: NDArray[np.float32]


def find_leaders(vectors: NDArray[np.floating], threshold: float, agree: Agree, *, margin: float = 0.0) -> Leaders:
    """Of each row `[n, d]`, float16 or float32 of length 1, its nearest leader; a row with a cosine of `threshold` or more goes.

    margin: how much below the threshold pairs are still told. Memory: the vectors, a copy of those that stay in float16, and a
    block's products. Deterministic for the same rows in the same order on the same machine.
    """
    count, least = len(vectors), threshold - margin
    nearest, cosine = np.full(count, -1, np.int64), np.zeros(count, np.float32)
    index = kept_index(vectors)
    stay: list[int] = []
    for begin in range(0, count, BLOCK):
        some = np.ascontiguousarray(vectors[begin : begin + BLOCK], np.float32)
        before = _known(index, some, least, stay)
        inside = some @ some.T
        added: list[int] = []
        for at in range(len(some)):
            own = [(float(inside[at, one]), begin + one) for one in added if inside[at, one] >= least]
            for found, row in sorted([*before[at], *own], key=lambda pair: (-pair[0], pair[1])):
                if agree(row, begin + at):
                    nearest[begin + at], cosine[begin + at] = row, found
                    break
            if cosine[begin + at] < threshold:
                added.append(at)
        if added:
            index.add(some[added])
            stay += [begin + at for at in added]
    return Leaders(nearest, cosine)


def kept_index(vectors: NDArray[np.floating]) -> Any:
    """An empty index for rows like these, by their products."""
    import faiss

    count, width = vectors.shape
    if count < CELLS_FROM:
        return faiss.IndexFlatIP(width)
    cells = min(4096, 2 ** round(np.log2(count**0.5)))
    step = max(1, count // (cells * SAMPLED))
    means = faiss.Kmeans(width, cells, niter=8, seed=0, spherical=True, max_points_per_centroid=2 * SAMPLED)
    means.train(np.ascontiguousarray(vectors[::step], np.float32))
    assert means.centroids is not None
    quantizer = faiss.IndexFlatIP(width)
    quantizer.add(means.centroids)
    index = faiss.IndexIVFScalarQuantizer(
        quantizer, width, cells, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT, False
    )
    index.train(means.centroids)
    index.nprobe = PROBES
    return index


def _known(index: Any, some: NDArray[np.float32], least: float, stay: list[int]) -> list[list[tuple[float, int]]]:
    """Of each of these rows, (cosine, row) of those in the index that are as near."""
    if not stay:
        return [[] for _ in some]
    limits, cosines, places = index.range_search(some, float(np.nextafter(np.float32(least), np.float32(-2))))
    return [
        [(float(found), stay[place]) for found, place in zip(cosines[a:b], places[a:b], strict=True)]
        for a, b in zip(limits[:-1].tolist(), limits[1:].tolist(), strict=True)
    ]
