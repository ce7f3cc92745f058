"""Near rows without all pairs, and few rows that stand for all: by hand, and against all pairs."""

from __future__ import annotations

import numpy as np
import pytest

from redi_ray.data.embed import leaders
from redi_ray.data.embed.leaders import find_leaders
from redi_ray.data.embed.spread import farthest_first, measures, select_rows


def circle(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)


def always(one: int, other: int) -> bool:
    return True


def clustered(rows: int, seed: int = 0) -> np.ndarray:
    """In 50 clusters; every tenth row of the later half is a near copy of an earlier one."""
    chance = np.random.default_rng(seed)
    made = chance.normal(size=(50, 32))[chance.integers(0, 50, rows)] + chance.normal(size=(rows, 32))
    late = np.arange(rows // 2, rows, 10)
    made[late] = made[chance.integers(0, rows // 2, len(late))] + 0.05 * chance.normal(size=(len(late), 32))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float16)


def test_a_row_goes_for_one_that_stays_and_chains_do_not_join():
    """0, 20, 40 degrees at a threshold of 25: the second goes for the first; the third, near to it alone, stays."""
    found = find_leaders(circle(0, 20, 40, 41), float(np.cos(np.radians(25))), always, margin=0.2)
    assert found.nearest.tolist() == [-1, 0, 0, 2]
    assert (found.cosine >= np.cos(np.radians(25))).tolist() == [False, True, False, True]


def test_the_nearest_that_agrees_counts():
    found = find_leaders(circle(0, 10, 11), 0.9, lambda one, other: one == 0 and other == 2)
    assert found.nearest.tolist() == [-1, -1, 0]


def test_cells_find_what_all_pairs_find(monkeypatch: pytest.MonkeyPatch):
    """With an inverted file in place of all that stay: the planted copies, and who they are of."""
    vectors = clustered(3000)
    whole = find_leaders(vectors, 0.95, always)
    monkeypatch.setattr(leaders, "CELLS_FROM", 100)
    parts = find_leaders(vectors, 0.95, always)
    planted = whole.cosine >= 0.95
    assert 140 <= planted.sum() <= 160
    assert (parts.nearest[planted] == whole.nearest[planted]).mean() > 0.97
    assert not (parts.cosine[~planted] >= 0.95).any()


def test_farthest_first_by_hand():
    """The first is the farthest from the mean; copies of what is there come last, and no order of the rows matters."""
    rows = circle(0, 0, 10, 90, 180)
    selected = farthest_first(rows, 5).tolist()
    assert selected == [4, 0, 3, 2, 1]
    turned = [4, 2, 3, 0, 1]
    again = farthest_first(rows[turned], 4)
    assert rows[turned][again].tolist() == rows[selected[:4]].tolist()


@pytest.mark.parametrize("by", ["farthest", "clusters", "random"])
def test_all_of_them_and_none_twice(by: str):
    vectors = clustered(300)
    assert sorted(select_rows(vectors, 300, by)) == list(range(300))  # type: ignore[arg-type]
    assert len(set(select_rows(vectors, 77, by).tolist())) == 77  # type: ignore[arg-type]


def test_selections_are_more_spread_than_chance():
    vectors = clustered(2000)
    found = {by: measures(vectors, select_rows(vectors, 50, by)) for by in ("farthest", "clusters", "random")}  # type: ignore[arg-type]
    assert found["farthest"]["mean_nearest"] > found["clusters"]["mean_nearest"] > found["random"]["mean_nearest"]
    assert found["clusters"]["mean_distance"] < found["random"]["mean_distance"]


def test_measures_by_hand():
    found = measures(circle(0, 90, 180), np.array([0, 1]))
    assert found == {"mean_distance": pytest.approx(1 / 3, abs=1e-6), "coverage": pytest.approx(2 / 3, abs=1e-6),
                     "mean_nearest": 1.0}  # fmt: skip
    assert measures(circle(0, 90), np.array([], np.int64)) == {}
