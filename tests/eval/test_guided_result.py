"""A search on a benchmark: one answer of each problem, against as many samples as cost as many tokens."""

from __future__ import annotations

import pyarrow as pa
import pytest
from test_evaluate import PROBLEMS, trace

from redi_ray.config.evaluation import EvaluateSettings
from redi_ray.config.guided import GuidedSettings
from redi_ray.eval.guided import READ, Found, add_guided
from redi_ray.schemas import VERIFIED_TRACE

SETTINGS = EvaluateSettings(num_samples=4, guided=GuidedSettings(model="prm", keep=3, candidates=2))
CORRECT, WRONG = "correct", "wrong"


def searched(tokens: dict[str, int]) -> Found:
    """Of a the best is wrong, and two others agree on the right answer; of b the best one of two is right; c is of another
    benchmark."""
    rows = [
        ("a", 0, WRONG, "7", "stop", 0.8), ("a", 1, CORRECT, "1", "stop", 0.5), ("a", 2, CORRECT, "1", "stop", 0.2),
        ("b", 0, CORRECT, "1", "stop", 0.9), ("b", 1, WRONG, None, "length", None), ("c", 0, WRONG, "7", "stop", 1.0),
    ]  # fmt: skip
    named = [dict(zip([*READ[1:], "value"], row[:3] + row[3:], strict=True)) for row in rows]
    table = [{"trace_id": f"{row['problem_id']}#{row['sample_index']}", **row} for row in named]
    return Found(pa.Table.from_pylist(table), {"c": 9, **tokens}, {"steps": 2})


def samples(numbers: dict[str, list[float | None]] | None = None) -> pa.Table:
    """Four each, of 10 tokens: of a one right, of b three."""
    right = {"a": [True, False, False, False], "b": [True, True, True, False]}
    rows = [
        trace(name, at, CORRECT if hit else WRONG, 10) | {"extracted_answer": "1" if hit else "7"}
        for name, hits in right.items()
        for at, hit in enumerate(hits)
    ]
    table = pa.Table.from_pylist(rows, schema=VERIFIED_TRACE)
    if numbers is None:
        return table
    return table.append_column("rank_by", pa.array([number for name in right for number in numbers[name]]))


def result(tokens: dict[str, int], **columns: dict[str, list[float | None]]) -> dict:
    made: dict = {}
    add_guided(made, searched(tokens), samples(**columns), PROBLEMS, "rank_by" if columns else None, SETTINGS)
    return made["guided"]


def test_one_answer_of_each_problem_by_hand() -> None:
    """Votes: a 2 against 1, weighed .7 against .8; what has no number has no vote there."""
    found = result({"a": 30, "b": 24})
    assert (found["best"], found["any"], found["majority"], found["weighted"]) == (0.5, 1.0, 1.0, 0.5)
    assert (found["cut_off"], found["tokens"]) == (1 / 5, 27.0)
    assert (found["guide"], found["keep"], found["candidates"]) == ("prm", 3, 2)


def test_samples_cost_at_least_as_much() -> None:
    """27 tokens are 3 samples: of a a majority is never right, of b always; 80 are more than all there are."""
    found = result({"a": 30, "b": 24})
    assert (found["equal_k"], found["equal_tokens"]) == (3, 30.0)
    assert found["equal"] == {"any": pytest.approx((3 / 4 + 1) / 2), "majority": 0.5}
    assert found["best_against_majority"]["difference"] == 0.0
    assert found["best_against_best"] is None
    dear = result({"a": 80, "b": 80})
    assert (dear["equal_k"], dear["equal_tokens"], dear["tokens"]) == (4, 40.0, 80.0)


def test_against_the_best_sample_by_the_same_model() -> None:
    numbers = {"a": [0.9, 0.1, 0.2, 0.3], "b": [0.1, 0.2, 0.3, None]}
    found = result({"a": 40, "b": 40}, numbers=numbers)
    assert found["equal"]["best"] == 1.0
    assert found["equal"]["weighted"] == pytest.approx(1.0)
    assert found["best_against_best"]["difference"] == -0.5
