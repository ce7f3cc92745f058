"""ReasonFlux-PRM's numbers by hand, in float64: a step's three as one, the whole beside steps, what traces are selected by."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import TypeAdapter, ValidationError

from redi_ray.config.prompts import PromptSettings
from redi_ray.config.scorers import Scorer as Settings
from redi_ray.data.score import SCORERS
from redi_ray.data.score.score import _score_shard
from redi_ray.data.score.scorer import Asked
from redi_ray.data.score.step_rewards import alignment, coherence, softmax_weighted, trace_reward
from redi_ray.eval.steps import step_auc
from redi_ray.schemas import LABELLED_SCORE, SPAN_SCORE, VERIFIED_TRACE
from redi_ray.store import parquet
from redi_ray.text.thoughts import response_start

TEXT = "<think>\n1+1=2\n2+2=4\n</think>\n4"
STEPS = [(0, 14), (14, 20), (20, 30)]
ROWS = [
    {"trace_id": "a#0", "completion": TEXT, "verdict": "correct"},
    {"trace_id": "a#1", "completion": "<think>\n1+1=2\n2+2=4\n", "verdict": "wrong"},
    {"trace_id": "b#0", "completion": TEXT, "verdict": "wrong"},
]
VALUES = [(0.8, 0.5, -0.2), (0.3, 0.3, 0.3)]


def spans(values: list[float | None], labels: list[str] | None = None) -> list[dict[str, Any]]:
    told = zip(STEPS, values, labels or ["x"] * 3, strict=False)
    return [{"turn": 0, "start": a, "end": b, "label": label, "value": value} for (a, b), value, label in told]


def settings_of(**settings: Any) -> Any:
    return TypeAdapter(Settings).validate_python(settings)


def made(
    tmp_path: Any, others: dict[str, list[Any]], rows: list[dict[str, Any]] = ROWS, /, **settings: Any
) -> list[Any]:
    """The column that a scorer makes of these ones, through its files."""
    filled = [
        {"problem_id": row["trace_id"][0], "problem": "p", "sample_index": 0, "verdict_by": [], **row} for row in rows
    ]
    parquet.write_table(f"{tmp_path}/in/part.parquet", pa.Table.from_pylist(filled, schema=VERIFIED_TRACE))
    for name, values in others.items():
        keyed = [
            {"trace_id": row["trace_id"], ("value" if name == "whole" else "spans"): value}
            for row, value in zip(rows, values, strict=True)
        ]
        schema = LABELLED_SCORE if name == "whole" else SPAN_SCORE
        parquet.write_table(f"{tmp_path}/{name}/part.parquet", pa.Table.from_pylist(keyed, schema=schema))
    asked = Asked(PromptSettings(), columns={f"column {name}": f"{tmp_path}/{name}" for name in others})
    _score_shard("part.parquet", f"{tmp_path}/in", f"{tmp_path}/out", settings_of(**settings), asked)
    (table,) = parquet.read_tables([f"{tmp_path}/out/part.parquet"])
    return table.column(1).to_pylist()


def test_a_steps_three_are_weighted_by_their_own_softmax() -> None:
    assert float(softmax_weighted(np.array(VALUES[0]))) == pytest.approx(0.5201472178, abs=1e-10)
    for equal in (-3.0, 0.0, 0.7, 800.0):
        assert float(softmax_weighted(np.full(3, equal))) == pytest.approx(equal, abs=1e-12)
    draws = np.random.default_rng(0).normal(0, 2, (50, 3))
    found = softmax_weighted(draws)
    assert np.allclose(found, softmax_weighted(draws[:, [2, 0, 1]]), atol=1e-14), "in any order"
    assert (draws.mean(1) <= found).all()
    assert (found <= draws.max(1)).all()


def test_alignment_and_coherence_by_hand() -> None:
    steps, response = np.eye(3), np.array([[0.6, 0.8, 0.0], [0.0, 0.8, -0.6]])
    assert alignment(steps, response).tolist() == pytest.approx([0.6, 0.8, 0.0])
    found = coherence(np.array([0.9, 0.1, 0.5]), np.array([[0.9, 0.9, 0.9], [0.1, 0.2, 0.3], [-1, -1, -1]]), 0.1)
    assert found[0] == pytest.approx(1 / 4), "not to be told apart: chance"
    assert found[1] == pytest.approx(1 / (1 + 1 + math.e + math.e**2))
    assert found[2] == pytest.approx(1 / (1 + 3 * math.exp(-15)))
    assert coherence(np.array([1.0]), np.array([[-1.0]]), 1e-4).tolist() == [1.0], "no overflow"


def test_columns_become_targets_of_steps(tmp_path: Any) -> None:
    """Where all have a number: a label stands for one, and a step that nobody has looked at has none."""
    columns = {
        "near": [spans([0.8, 0.3, None]), spans([0.8, 0.3]), None],
        "judged": [
            spans([None] * 3, ["right", "wrong", "right"]),
            spans([None] * 2, ["right", "unseen"]),
            spans([1.0]),
        ],
        "told": [spans([-0.2, 0.3, 0.1]), spans([-0.2, 0.3]), spans([1.0])],
    }
    how = {"near": "value", "judged": {"right": 0.5, "wrong": 0.3}, "told": "value"}
    found = made(tmp_path, columns, name="step_rewards", columns=how)
    assert [[(span["start"], span["end"], span["label"]) for span in row or ()] for row in found] == [
        [(0, 14, "step"), (14, 20, "step")], [(0, 14, "step")], [],
    ]  # fmt: skip
    assert [span["value"] for span in found[0]] == pytest.approx([0.5201472178, 0.3], abs=1e-7)
    assert found[2] is None
    equal = made(tmp_path / "equal", columns, name="step_rewards", columns=how, weights="equal")
    assert [span["value"] for span in equal[0]] == pytest.approx([1.1 / 3, 0.3], abs=1e-7)


def test_the_whole_has_a_target_at_the_response(tmp_path: Any) -> None:
    """Whose steps give way, so that no two targets stand at one token; a trace that was cut off, or has no number, is out."""
    columns = {
        "judged": [spans([0.5, 0.25, 1.0]), spans([0.5, 0.25]), spans([0.5, 0.25, 1.0])],
        "whole": [0.75, 1, None],
    }
    found = made(tmp_path, columns, name="step_rewards", columns={"judged": "value"}, trajectory="whole")
    assert [(span["start"], span["end"], span["label"], span["value"]) for span in found[0]] == [
        (0, 14, "step", 0.5), (14, 20, "step", 0.25), (20, 30, "trajectory", 0.75),
    ]  # fmt: skip
    assert TEXT[20:].startswith("</think>")
    assert found[1:] == [None, None]
    crossing = [{"trace_id": "c#0", "completion": "so 4 </think> 4", "verdict": "correct"}]
    whole = [{"turn": 0, "start": 0, "end": 15, "label": "x", "value": 0.5}]
    found = made(tmp_path / "c", {"judged": [whole], "whole": [1]}, crossing, name="step_rewards",
                 columns={"judged": "value"}, trajectory="whole")  # fmt: skip
    assert [(span["start"], span["end"], span["value"]) for span in found[0]] == [(0, 5, 0.5), (5, 15, 1)]
    assert trace_reward(crossing[0], whole, 1.0) == 1.0, "it ends the thinking, and the response"


def test_what_traces_are_selected_by(tmp_path: Any) -> None:
    """The mean over the thinking plus alpha times the response's last step; without a response only where alpha is 0."""
    columns = {"said": [spans([0.5, 0.25, 0.5]), spans([0.5, 0.25]), None]}
    assert made(tmp_path, columns, name="trace_reward", column="said") == [0.875, None, None]
    alone = made(tmp_path / "alone", columns, name="trace_reward", column="said", alpha=0)
    assert alone == [0.375, 0.375, None]
    assert made(tmp_path / "half", columns, name="trace_reward", column="said", alpha=0.5)[0] == 0.625
    assert trace_reward(ROWS[0], spans([None, None, 1.0]), 1.0) is None, "no step of the thinking has a number"
    assert response_start(TEXT) == 20
    assert response_start("<think>a</think>b</think>c") == 17
    assert response_start("<think>a") is None


def test_pass_rates_of_what_was_made_of_samples(tmp_path: Any) -> None:
    """By the samples' ids; a verdict that says nothing does not count, and a sample that nobody answered has no number."""
    verdicts = {"a#0": ["correct", "wrong", "no_answer", "timeout"], "b#0": ["error"], "z#9": ["correct"]}
    judged = [
        {"trace_id": f"{key}#{n}", "problem_id": key, "problem": "", "completion": "", "sample_index": n,
         "verdict": verdict, "verdict_by": []}
        for key, said in verdicts.items() for n, verdict in enumerate(said)
    ]  # fmt: skip
    parquet.write_table(f"{tmp_path}/judged.parquet", pa.Table.from_pylist(judged, schema=VERIFIED_TRACE))
    read = settings_of(name="pass_rate", samples="x")
    asked = Asked(PromptSettings(), work=f"{tmp_path}/work", judged=(f"{tmp_path}/judged.parquet",))
    told = SCORERS["pass_rate"].prepare(read, asked)
    values = SCORERS["pass_rate"].start(read, asked)(pa.Table.from_pylist(ROWS))
    assert [row["value"] for row in values] == [pytest.approx(1 / 3), None, None]
    assert told == {"answered": {"problems": 2, "samples": 4, "right": 2, "left_out": 2}}
    nothing = Asked(PromptSettings(), work=f"{tmp_path}/none")
    SCORERS["pass_rate"].prepare(read, nothing)
    assert SCORERS["pass_rate"].start(read, nothing)(pa.Table.from_pylist(ROWS)) == [{"value": None}] * 3


def test_numbers_that_a_model_says_of_samples(tmp_path: Any) -> None:
    """The mean of what is a number, by the samples' ids; what is none is counted and says nothing."""
    answers = {"a#0": ["2", " 3.5 ", "good", None], "b#0": ["nan", "inf"], "z#9": ["1"]}
    read = [
        {"trace_id": f"{key}#{n}", "problem_id": key, "problem": "", "completion": "", "sample_index": n,
         "verdict": "no_answer", "verdict_by": [], "extracted_answer": answer}
        for key, said in answers.items() for n, answer in enumerate(said)
    ]  # fmt: skip
    parquet.write_table(f"{tmp_path}/judged.parquet", pa.Table.from_pylist(read, schema=VERIFIED_TRACE))
    asked = Asked(PromptSettings(), work=f"{tmp_path}/work", judged=(f"{tmp_path}/judged.parquet",))
    settings = settings_of(name="said", samples="x")
    assert SCORERS["said"].prepare(settings, asked) == {"answered": {"problems": 2, "samples": 7, "no_number": 4}}
    values = SCORERS["said"].start(settings, asked)(pa.Table.from_pylist(ROWS))
    assert [row["value"] for row in values] == [pytest.approx(2.75), None, None]


def test_an_oracle_tells_real_traces_apart(real_set: Any) -> None:
    """prmbench_steps: by the labels of its steps AUC is 1, over steps and over traces; a constant scorer's is one half."""
    wrong, right = [], []
    for row in real_set("prmbench_steps"):
        for texts, errors, found in ((row["steps_wrong"], row["error_steps"], wrong), (row["steps_right"], [], right)):
            ends = np.cumsum([len(text) + 1 for text in texts]).tolist()
            marked = [
                {"turn": 0, "start": start, "end": end, "value": float(at not in errors)}
                for at, (start, end) in enumerate(zip([0, *ends], ends, strict=False))
            ]
            found.append(trace_reward({"completion": "\n".join(texts) + "\n"}, marked, 0.0))
    assert len(wrong) == len(right) == 1014
    assert step_auc([*right, *wrong], [True] * 1014 + [False] * 1014) == 1
    assert step_auc([0.5] * 2028, [True] * 1014 + [False] * 1014) == 0.5


def test_refused() -> None:
    for wrong in (
        {"name": "step_rewards", "columns": {}},
        {"name": "step_rewards", "columns": {"a": "values"}},
        {"name": "step_rewards", "columns": {"a": {"right": math.inf}}},
        {"name": "step_rewards", "columns": {"a": "value"}, "trajectory": "a"},
        {"name": "similarity", "model": "base", "to": "next"},
        {"name": "similarity", "model": "base", "to": "previous", "temperature": 0},
        {"name": "trace_reward", "column": "a", "alpha": math.nan},
    ):
        with pytest.raises(ValidationError):
            settings_of(**wrong)
