"""What scorers say of an evaluation's samples: numbers beside the right samples, in the right cells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from test_evaluate import PROBLEMS, ROWS, trace

from redi_ray.config.evaluation import EvaluateSettings
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.scorers import LengthScorer, RuleScorer
from redi_ray.data.columns import write_column
from redi_ray.data.score import SCORERS
from redi_ray.data.score.scorer import Asked
from redi_ray.eval.evaluate import read_scored
from redi_ray.eval.scoring import add_agreement, add_scores, with_numbers
from redi_ray.schemas import LABELLED_SCORE, VERIFIED_TRACE
from redi_ray.store import parquet, storage

SETTINGS = EvaluateSettings(
    num_samples=2, ks=[1, 2], score=LengthScorer(name="length"), rank_by=RuleScorer(name="rule", pattern="right")
)


def rows_of(tmp_path: Path, settings: EvaluateSettings = SETTINGS) -> pa.Table:
    """ROWS, in two shards, with texts of their own and the numbers of two scorers."""
    texts = {"a#0": "right", "a#1": "wrong!", "b#0": "right answer", "b#1": "no"}
    made = [
        row
        | {
            "completion": texts[row["trace_id"]],
            "extracted_answer": row["trace_id"][0] if row["sample_index"] == 0 else "7.0",
        }
        for row in ROWS.to_pylist()
    ]
    for number, some in enumerate((made[:3], made[3:])):
        parquet.write_table(f"{tmp_path}/verified/{number}.parquet", pa.Table.from_pylist(some, schema=VERIFIED_TRACE))

    def writer(field: str):
        scorer = getattr(settings, field)

        def write(samples: str, out: str) -> str:
            told = SCORERS[scorer.name]
            for uri in storage.list_files(samples, ".parquet"):
                values = told.start(scorer, Asked(PromptSettings()))
                write_column(uri, storage.join(out, uri.rsplit("/", 1)[-1]), told.schema(scorer), told.reads, values)
            return out

        return write

    rows = read_scored(storage.list_files(f"{tmp_path}/verified", ".parquet"), settings)
    columns = {field: writer(field) for field in ("score", "rank_by")}
    return with_numbers(rows, f"{tmp_path}/verified", str(tmp_path), columns)


def test_numbers_stand_beside_their_samples(tmp_path: Path) -> None:
    """Lengths 5, 6, 12, 2: a has 5.5 on average and b 7; the one right sample of each problem is what the rule prefers."""
    rows, result = rows_of(tmp_path), {}
    add_scores(result, rows, PROBLEMS, SETTINGS)
    assert result["score"]["mean"] == pytest.approx((5 + 6 + 12 + 2) / 4)
    assert result["score"]["problem_means"] == (5.5, 7.0)
    assert result["score"]["sem"] == pytest.approx(np.std([8.5, 4.0]) / 2**0.5)
    assert result["ranked"]["at_k"]["2"] == {"any": 1.0, "majority": 0.5, "best": 1.0, "weighted": 1.0}
    assert result["ranked"]["at_k"]["1"]["best"] == 0.5
    nothing: dict[str, object] = {}
    add_scores(nothing, rows, PROBLEMS, EvaluateSettings(num_samples=2))
    assert nothing == {}


def test_words_of_a_scorer_are_counted_and_missing_numbers_told(tmp_path: Path) -> None:
    rows = rows_of(tmp_path)
    labels = pa.array(["found", "bad_format", "found", "nothing_wanted"])
    values = pa.chunked_array([pa.array([0.5 if row == "a" else None for row in rows["problem_id"].to_pylist()])])
    rows = rows.set_column(rows.column_names.index("score"), "score", values).append_column("score label", labels)
    assert "label" in LABELLED_SCORE.names
    result: dict = {}
    add_scores(result, rows, PROBLEMS, SETTINGS)
    assert (result["score"]["num_problems"], result["score"]["without"]) == (1, 2)
    assert result["score"]["labels"] == {"bad_format": 1, "found": 2, "nothing_wanted": 1}


def test_answers_are_compared_with_scores_in_one_spelling() -> None:
    """As people write numbers: 3.0 and 03 are 3."""
    made = [
        trace("a", 0, "correct", 1) | {"extracted_answer": "3.0"},
        trace("b", 0, "wrong", 1) | {"extracted_answer": None},
    ]
    problems = PROBLEMS.set_column(PROBLEMS.column_names.index("answer"), "answer", pa.array(["3", "2"]))
    result: dict = {}
    add_agreement(result, pa.Table.from_pylist(made, schema=VERIFIED_TRACE), problems, SETTINGS)
    assert (result["agreement"]["accuracy"], result["agreement"]["unreadable"]) == (0.5, 1)
