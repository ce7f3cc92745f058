"""Which few rows stand for all of them: k by greedy farthest-first, or one cluster after the other, and how well they do.

Distances are 1 - cosine. The idea of paying for distance to what is already there is that of Contrastive Model Inversion
(arXiv 2105.08584), here as a selection.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

MOST_CELLS = 4096
MEASURED = 20_000
"""Rows that measures are taken of, or first centres, at the most, evenly spread over the rows."""
NEAR = 0.3
"""A row is covered if a selected one is no farther."""
Rows = NDArray[np.int64]


def farthest_first(vectors: NDArray[np.floating], count: int) -> Rows:
    """`[count]` rows, each the farthest from those before it; the first is the farthest from the mean of all. Of equals the first
    row. vectors: `[n, d]` of length 1. Time n * count * d; memory 4 bytes a number, and one number a row.
    """
    flat = np.ascontiguousarray(vectors, np.float32)
    count = min(count, len(flat))
    if not count:
        return np.empty(0, np.int64)
    at = int(np.argmin(flat @ flat.mean(0)))
    nearest = np.full(len(flat), -np.inf, np.float32)  # cosine to the nearest that is selected
    selected = np.empty(count, np.int64)
    for number in range(count):
        selected[number] = at
        np.maximum(nearest, flat @ flat[at], out=nearest)
        nearest[at] = np.inf  # also where a copy of it is left: those come last, in their order
        at = int(np.argmin(nearest))
    return selected


def by_clusters(vectors: NDArray[np.floating], count: int, seed: int = 0) -> Rows:
    """`[count]` rows, taken in turn from k-means clusters, as many as rows are wanted, 4,096 at the most; of each cluster first
    the row nearest to its centre, then the next. Time n * clusters * d.
    """
    import faiss

    flat = np.ascontiguousarray(vectors, np.float32)
    count = min(count, len(flat))
    cells = min(count, MOST_CELLS, max(1, len(flat) // 2))
    if cells < 2:
        return farthest_first(flat, count)
    means = faiss.Kmeans(
        flat.shape[1],
        cells,
        niter=10,
        seed=seed,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=256,
    )
    some = flat[:: max(1, len(flat) // max(MEASURED, 2 * cells))]  # to begin with centres that are far from each other
    means.train(flat, init_centroids=some[farthest_first(some, cells)])
    cosine, cell = (found[:, 0] for found in means.index.search(flat, 1))
    order = np.lexsort((np.arange(len(flat)), -cosine, cell))  # cluster by cluster, the nearest to its centre first
    starts = np.searchsorted(cell[order], np.arange(cells))
    turn = np.arange(len(flat)) - starts[cell[order]]
    return order[np.lexsort((cell[order], turn))][:count]


def select_rows(
    vectors: NDArray[np.floating], count: int, by: Literal["farthest", "clusters", "random"], seed: int = 0
) -> Rows:
    """By one of the two, or the first `count` rows, which are random where rows are in the order of hashes of their ids. All
    rows where there are no more."""
    if count >= len(vectors):
        return np.arange(len(vectors))
    if by == "farthest":
        return farthest_first(vectors, count)
    return by_clusters(vectors, count, seed) if by == "clusters" else np.arange(min(count, len(vectors)))


def measures(vectors: NDArray[np.floating], selected: Rows) -> dict[str, float]:
    """How spread a selection is: `mean_nearest`, of the selected ones the mean distance to the nearest other one;
    `mean_distance`, of all rows the mean distance to the nearest selected one; `coverage`, the share of rows with one in NEAR.

    Of more than MEASURED rows, every so-manieth counts; they are held against all that are selected.
    """
    chosen = np.ascontiguousarray(vectors[np.sort(selected)], np.float32)
    if not len(chosen):
        return {}
    index = _index(chosen)
    all_step, own_step = (max(1, len(rows) // MEASURED) for rows in (vectors, chosen))
    distance = 1 - index.search(np.ascontiguousarray(vectors[::all_step], np.float32), 1)[0][:, 0]
    found = {"mean_distance": float(distance.mean()), "coverage": float((distance <= NEAR).mean())}
    if len(chosen) > 1:
        own = np.arange(0, len(chosen), own_step)
        cosines, places = index.search(np.ascontiguousarray(chosen[own]), 2)
        other = np.where(places[:, 0] == own, cosines[:, 1], cosines[:, 0])  # a copy may come before the row itself
        found["mean_nearest"] = float((1 - other).mean())
    return {name: round(value, 6) for name, value in found.items()}


def _index(rows: NDArray[np.float32]) -> Any:
    import faiss

    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows)
    return index
