"""Judges of pairs against people, as published, and agreement beyond chance."""

from __future__ import annotations

import numpy as np
import pytest

from redi_ray.eval.agreement import kappa, pair_agreement, score_agreement

PUBLISHED = {
    ("GPT-4/Vanilla", "Natural"): (95.0, 96.0, 95.0),
    ("GPT-4/Vanilla", "Neighbor"): (77.6, 79.9, 93.3),
    ("ChatGPT/Vanilla", "Neighbor"): (22.4, 16.4, 71.6),
    ("Falcon/CoT", "Natural"): (49.0, 65.0, 14.0),
}


@pytest.mark.parametrize(("judge", "subset"), PUBLISHED)
def test_published_judges(real_set, judge, subset):
    """Accuracy in both orders and agreement between them; unreadable verdicts are wrong, and two of them agree."""
    rows = [row for row in real_set("llmbar_judge") if row["subset"] == subset]
    winners = zip(*(row["winner"][judge] for row in rows), strict=True)
    found = pair_agreement([row["gold"] for row in rows], *map(list, winners))
    assert [round(found[name], 1) for name in ("accuracy", "accuracy_swapped", "agreement")] == list(
        PUBLISHED[judge, subset]
    )


def test_every_cell_has_a_judge_and_a_subset(real_set):
    rows = real_set("llmbar_judge")
    assert len({(judge, row["subset"]) for row in rows for judge in row["winner"]}) == 50


def test_unreadable_is_wrong_and_agrees_with_itself():
    assert pair_agreement([1, 2], [None, 2], [None, 1]) == {"accuracy": 50, "accuracy_swapped": 0, "agreement": 50}
    with pytest.raises(ValueError, match="at least one"):
        pair_agreement([], [], [])


def test_kappa():
    """Chance from both judges' frequencies: 0.7 agree, 0.5 by chance."""
    first, second = [1] * 5 + [2] * 5, [1] * 3 + [2] * 2 + [1] + [2] * 4
    assert kappa(first, second) == pytest.approx((0.7 - 0.5) / 0.5)
    assert kappa(first, first) == 1
    assert kappa([1, 1], [1, 1]) is None


def test_scores_of_a_judge():
    """As kappa and numpy have it over all pairs, unreadable scores a label of their own; intervals hold the value and repeat."""
    generator = np.random.default_rng(0)
    gold = [str(score) for score in generator.integers(0, 4, 80)]
    found = [[score if generator.random() < 0.6 else str(generator.integers(0, 4)) for _ in range(2)] for score in gold]
    found[3][0] = None
    result = score_agreement(gold, found)
    flat = [(score, one) for score, row in zip(gold, found, strict=True) for one in row]
    assert result.kappa == pytest.approx(kappa(*map(list, zip(*flat, strict=True))))
    assert result.accuracy == pytest.approx(np.mean([one == other for one, other in flat]))
    pairs = [(float(one), float(other)) for one, other in flat if other is not None]
    assert result.correlation == pytest.approx(np.corrcoef(*zip(*pairs, strict=True))[0, 1])
    assert (result.num_judged, result.num_samples, result.unreadable) == (80, 2, 1)
    for value, ends in ((result.kappa, result.kappa_ci95), (result.correlation, result.correlation_ci95)):
        assert ends[0] < value < ends[1] < ends[0] + 0.5
    assert score_agreement(gold, found) == result
    alike = score_agreement(["1", "1"], [["1"], ["1"]])
    assert (alike.accuracy, alike.kappa, alike.correlation) == (1, None, None)
    with pytest.raises(ValueError, match="all of one length"):
        score_agreement(["1", "2"], [["1"], ["1", "2"]])
