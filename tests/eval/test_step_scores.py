"""ProcessBench's measure on its real labels: the numbers of fixed predictors, by hand and as published."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from redi_ray.eval.steps import UNREADABLE, first_error_scores, step_auc


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    with gzip.open(folder / "steps_turns_rewards" / f"{name}.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


def test_fixed_predictors_on_processbench(test_data):
    found = rows(test_data, "processbench_gsm8k")
    labels = [row["first_error"] for row in found]
    assert sum(label is not None for label in labels) == 207

    def scores(of):
        return first_error_scores(labels, [of(row) for row in found])

    second = scores(lambda row: None if row["final_answer_correct"] else 1)
    assert second["wrong_accuracy"] == pytest.approx(100 * 59 / 207)
    assert second["right_accuracy"] == 100
    assert round(second["f1"], 2) == 44.36
    last = scores(lambda row: -1 if row["final_answer_correct"] else len(row["steps"]) - 1)
    assert last["wrong_accuracy"] == pytest.approx(100 * 15 / 207)
    assert round(last["f1"], 2) == 13.51
    assert scores(lambda row: None)["f1"] == scores(lambda row: 1)["f1"] == 0
    assert scores(lambda row: row["first_error"])["f1"] == 100


def test_named_steps_of_mathcheck(test_data):
    """Error accuracy of four models, as published; no solution there is right, so there is no F1."""
    found = rows(test_data, "mathcheck_process")
    labels = [row["gold_step"] - 1 for row in found]
    totals = {"o1-mini": 483, "gpt-3.5-turbo": 307, "gemini-1.5-pro-latest": 394, "chatglm3-6b": 112}
    for model, total in totals.items():
        named = [row["predicted_step"][model] for row in found]
        scores = first_error_scores(labels, [UNREADABLE if step is None else step - 1 for step in named])
        assert scores["wrong_accuracy"] == pytest.approx(100 * total / 516)
        assert (scores["right_accuracy"], scores["f1"]) == (None, None)


def test_by_hand():
    labels = [0] * 5 + [None] * 5
    scores = first_error_scores(labels, [0] * 4 + [UNREADABLE] + [-1] * 3 + [UNREADABLE, 2])
    assert scores == {"wrong_accuracy": 80, "right_accuracy": 60, "f1": pytest.approx(68.571429, abs=1e-6)}
    for labels, predictions in (([0], []), ([-2], [-2])):
        with pytest.raises(ValueError, match=r"solutions|a label is"):
            first_error_scores(labels, predictions)


def test_scores_of_steps(test_data):
    right = [
        step not in row["error_steps"]
        for row in rows(test_data, "prmbench_steps")
        for step, _ in enumerate(row["steps_wrong"])
    ]
    assert step_auc(right, right) == 1
    assert step_auc([0.0] * len(right), right) == 0.5
    assert step_auc([3, 1, 2, 2], [True, False, True, False]) == 0.875
    assert step_auc([1, 2], [True, True]) is None
