"""Choosing among samples by a number: estimates against all draws, counted one by one; ties; samples without a number."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from itertools import combinations

import numpy as np
import pytest

from redi_ray.eval import ranking
from redi_ray.eval.metrics import pass_at_k
from redi_ray.eval.ranking import best_of_k, compare_means, majority_of_k, summarize_ranking, summarize_scores

NAN = float("nan")


def best_by_hand(values, numbers, k) -> float:
    """The mean over draws of the mean value of the highest."""
    ranked = [-np.inf if np.isnan(number) else number for number in numbers]
    found = []
    for drawn in combinations(range(len(values)), k):
        top = max(ranked[at] for at in drawn)
        found.append(np.mean([values[at] for at in drawn if ranked[at] == top]))
    return float(np.mean(found))


def majority_by_hand(answers, right, k, weights) -> float:
    found = []
    for drawn in combinations(range(len(answers)), k):
        votes: Counter[str] = Counter()
        for at in drawn:
            if answers[at] is not None and not np.isnan(weights[at]):
                votes[answers[at]] += weights[at]
        first = [name for name, count in votes.items() if count >= max(votes.values()) - 1e-9]
        worth = [
            np.mean([right[at] for at in range(len(answers)) if answers[at] == name and not np.isnan(weights[at])])
            for name in first
        ]
        found.append(np.mean(worth) if worth else 0.0)
    return float(np.mean(found))


@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_estimates_are_means_over_all_draws(k: int) -> None:
    """With ties, negative numbers, samples without a number and samples without an answer."""
    generator = np.random.default_rng(k)
    right = generator.random((12, 6)) < 0.5
    numbers = generator.integers(-2, 3, (12, 6)) / 2
    numbers[generator.random((12, 6)) < 0.2] = NAN
    names = np.array(["1", "2", "3", None], dtype=object)[generator.integers(0, 4, (12, 6))]
    answers = names.tolist()
    best, elected = best_of_k(right, numbers, k), majority_of_k(answers, right, k)
    weighted = majority_of_k(answers, right, k, numbers)
    for row in range(12):
        assert best[row] == pytest.approx(best_by_hand(right[row], numbers[row], k), abs=1e-12)
        ones = np.ones(6)
        assert elected[row] == pytest.approx(majority_by_hand(answers[row], right[row], k, ones), abs=1e-12)
        assert weighted[row] == pytest.approx(majority_by_hand(answers[row], right[row], k, numbers[row]), abs=1e-12)


def test_identities() -> None:
    """A perfect number picks like pass@k, a constant one like pass@1, the opposite one finds a right sample in all-right draws
    only; one vote is one sample; a perfect number decides a weighted vote wherever one sample is right."""
    right = np.random.default_rng(0).random((30, 8)) < 0.4
    counts = right.sum(axis=1)
    answers = [["right" if one else f"wrong {n % 2}" for n, one in enumerate(row)] for row in right.tolist()]
    for k in (1, 2, 5, 8):
        assert best_of_k(right, right, k).mean() == pytest.approx(pass_at_k(counts, 8, k))
        assert best_of_k(right, np.zeros((30, 8)), k).mean() == pytest.approx(right.mean())
        assert best_of_k(right, -right.astype(float), k).mean() == pytest.approx(1 - pass_at_k(8 - counts, 8, k))
        assert majority_of_k(answers, right, k, right).mean() == pytest.approx(pass_at_k(counts, 8, k))
    assert majority_of_k(answers, right, 1).mean() == pytest.approx(right.mean())
    with pytest.raises(ValueError, match="1 <= 9 <= 8"):
        best_of_k(right, right, 9)


def test_many_draws_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Near the exact mean, and the same every time."""
    right = np.random.default_rng(1).random((20, 10)) < 0.5
    answers = [[str(n % 4) if one else "x" for n, one in enumerate(row)] for row in right.tolist()]
    exact = majority_of_k(answers, right, 5)
    monkeypatch.setattr(ranking, "MOST_DRAWS", 200)
    some = majority_of_k(answers, right, 5)
    assert np.abs(some - exact).max() < 0.15
    assert np.array_equal(some, majority_of_k(answers, right, 5))
    assert not np.array_equal(some, exact)


def test_what_an_evaluation_says() -> None:
    """Problems with a sample that has no number do not count in the mean, and are counted; all goes through JSON."""
    found = summarize_scores("length", [[1, 3], [NAN, 2], [5, 5]], labels={"found": 5})
    assert found is not None
    assert (found.mean, found.num_problems, found.without) == (3.5, 2, 1)
    assert found.problem_means == (2.0, None, 5.0)
    assert found.sem == pytest.approx(0.5 / 2**0.5)  # S = (3, 4)
    assert summarize_scores("length", [[NAN, 1]], labels={}) is None
    paired = compare_means(found.problem_means, (3.0, 4.0, 5.0))
    assert paired is not None
    assert (paired.difference, paired.num_problems) == (0.5, 2)
    assert compare_means([None], [1.0]) is None
    ranked = summarize_ranking("r", [[1, 0], [0, NAN]], [[1, 0], [0, 1]], [["a", "b"], ["a", "b"]], (1, 2, 4))
    assert ranked.at_k == {
        "1": {"any": 0.5, "majority": 0.5, "best": 0.5, "weighted": 0.25},
        "2": {"any": 1.0, "majority": 0.5, "best": 0.5, "weighted": 0.5},
    }
    assert (ranked.largest_k, ranked.without) == (2, 1)
    json.dumps([asdict(found), asdict(ranked)], allow_nan=False)
