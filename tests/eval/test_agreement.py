"""Judges of pairs against people, as published, agreement beyond chance, and judges of single answers by their scores."""

from __future__ import annotations

import numpy as np
import pytest

from redi_ray.eval.agreement import kappa, pair_agreement, score_agreement

SUBSETS = {"Natural": 100, "Neighbor": 134, "GPTInst": 92, "GPTOut": 47, "Manual": 46}
"""Of LLMBar, with their pairs."""
PUBLISHED = {
    "GPT-4/Vanilla": "95 96 95 0.8977, 104 107 125 0.8651, 78 81 87 0.8910, 35 38 44 0.8686, 35 39 38 0.6522",
    "GPT-4/CoT": "94 95 91 0.8160, 101 100 121 0.8067, 75 78 83 0.8040, 37 33 41 0.7418, 33 35 38 0.6468",
    "ChatGPT/Vanilla": "80 83 71 0.4287, 30 22 96 0.4616, 25 24 57 0.3161, 17 22 28 0.2804, 18 14 24 0.2167",
    "ChatGPT/CoT": "70 78 64 -, 31 30 84 -, 28 26 54 -, 21 21 19 -, 18 15 23 -",
    "PaLM2/Vanilla": "78 88 80 -, 82 86 90 0.3537, 66 69 63 -, 27 29 31 0.3691, 32 28 40 -",
    "PaLM2/CoT": "69 77 64 -, 73 65 66 -, 47 54 25 -, 23 32 18 0.0606, 21 30 20 -",
    "LLaMA2/Vanilla": "79 82 79 0.5732, 34 32 104 0.5335, 28 28 67 -, 27 26 34 -, 17 17 30 0.3622",
    "LLaMA2/CoT": "72 79 67 0.3624, 56 43 90 -, 33 33 48 -, 21 21 17 0.0195, 18 18 22 -",
    "Falcon/Vanilla": "71 77 52 0.2134, 70 65 57 0.1119, 44 48 28 0.0420, 26 25 14 -0.0292, 22 25 23 0.1426",
    "Falcon/CoT": "49 65 14 0.0113, 77 57 21 -, 47 48 8 -, 22 26 5 0.0060, 21 24 5 0.0063",
}  # fmt: skip
"""Judge -> for each subset right in the one order, in the other, alike in both, and Cohen's kappa of the two orders, as
princeton-nlp/LLMBar has them in its statistics; its kappas of judges with unreadable verdicts treat those otherwise."""


@pytest.mark.parametrize("judge", PUBLISHED)
def test_published_judges(real_set, judge):
    """All ten judges on all five subsets; unreadable verdicts are wrong, and two of them agree."""
    for (subset, size), cell in zip(SUBSETS.items(), PUBLISHED[judge].split(", "), strict=True):
        rows = [row for row in real_set("llmbar_judge") if row["subset"] == subset]
        assert len(rows) == size
        one, other = map(list, zip(*(row["winner"][judge] for row in rows), strict=True))
        found = pair_agreement([row["gold"] for row in rows], one, other)
        *counts, beyond_chance = cell.split()
        assert [round(found[name] * size / 100, 6) for name in found] == list(map(int, counts)), subset
        if beyond_chance != "-":
            assert kappa(one, other) == pytest.approx(float(beyond_chance), abs=5e-5), subset


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
