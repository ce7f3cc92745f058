"""Judges of pairs against people, as published, and agreement beyond chance."""

from __future__ import annotations

import pytest

from redi_ray.eval.agreement import kappa, pair_agreement

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
