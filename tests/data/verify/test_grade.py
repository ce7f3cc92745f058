"""Verdicts by a number: only where nothing else could judge, by thresholds on both ends, shard by shard, and the same again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from redi_ray.config.grades import GradeSettings
from redi_ray.data.columns import ColumnError
from redi_ray.data.verify.grade import _grade_shard, verdict_of
from redi_ray.schemas import SCORE, VERIFIED_TRACE
from redi_ray.store import parquet

SETTINGS = GradeSettings(right=1.0, wrong=-1.0)


def write(folder: Path, rows: list[tuple[str, str | None, str | None, float | None]]) -> None:
    """(verdict, answer, finish reason, number) -> a shard of verified traces and its column."""
    traces: list[dict[str, Any]] = [
        {"problem_id": f"p{at}", "problem": "P", "answer": answer, "source": None, "trace_id": f"p{at}#0", "sample_index": 0,
         "completion": "c", "finish_reason": reason, "verdict": verdict,
         "verdict_by": [{"verifier": "math_verify", "vote": verdict}]}
        for at, (verdict, answer, reason, _) in enumerate(rows)
    ]  # fmt: skip
    numbers = [{"trace_id": f"p{at}#0", "value": number} for at, (*_, number) in enumerate(rows)]
    parquet.write_table(str(folder / "verified/a.parquet"), pa.Table.from_pylist(traces, schema=VERIFIED_TRACE))
    parquet.write_table(str(folder / "column/a.parquet"), pa.Table.from_pylist(numbers, schema=SCORE))


def graded(folder: Path) -> tuple[dict[str, int], list[dict[str, Any]]]:
    counts = _grade_shard("a.parquet", str(folder / "verified"), str(folder / "column"), str(folder / "out"), SETTINGS)
    return counts, next(parquet.read_tables([str(folder / "out/a.parquet")])).to_pylist()


def with_tests_that_cannot_be_run(folder: Path, at: int) -> None:
    """Give one trace the vote of tests, as of a problem whose tests are no good."""
    uri = str(folder / "verified/a.parquet")
    rows = next(parquet.read_tables([uri])).to_pylist()
    rows[at]["verdict_by"] = [{"verifier": "tests", "vote": "gold_unparseable"}]
    parquet.write_table(uri, pa.Table.from_pylist(rows, schema=VERIFIED_TRACE))


def test_thresholds_decide_only_what_nothing_else_could(tmp_path: Path) -> None:
    write(
        tmp_path,
        [
            ("gold_unparseable", None, "stop", 1.0),
            ("gold_unparseable", None, "stop", -1.0),
            ("gold_unparseable", None, "unfinished", -5.0),
            ("gold_unparseable", None, "stop", 0.5),
            ("gold_unparseable", None, "stop", None),
            ("gold_unparseable", None, None, float("nan")),
            ("gold_unparseable", "a proof", "stop", 9.0),
            ("correct", "4", "stop", -9.0),
            ("wrong", None, "stop", 9.0),
            ("gold_unparseable", None, "stop", 9.0),
        ],
    )
    with_tests_that_cannot_be_run(tmp_path, 9)
    counts, rows = graded(tmp_path)
    assert [row["verdict"] for row in rows] == [
        "correct", "wrong", "no_answer", *["gold_unparseable"] * 4, "correct", "wrong", "gold_unparseable",
    ]  # fmt: skip
    assert counts == {
        "graded/correct": 1,
        "graded/wrong": 1,
        "graded/no_answer": 1,
        "undecided": 1,
        "without": 2,
        "others": 4,
    }
    assert {one["verifier"]: one["vote"] for one in rows[0]["verdict_by"]} == {
        "grade": "correct", "math_verify": "gold_unparseable",
    }  # fmt: skip
    assert len(rows[3]["verdict_by"]) == 1


def test_a_shard_that_is_there_is_counted_as_it_was(tmp_path: Path) -> None:
    write(tmp_path, [("gold_unparseable", None, "stop", 2.0), ("wrong", "1", "stop", 0.0)])
    first = graded(tmp_path)
    before = (tmp_path / "out/a.parquet").stat().st_mtime_ns
    assert graded(tmp_path) == first
    assert (tmp_path / "out/a.parquet").stat().st_mtime_ns == before


def test_a_column_of_other_traces_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [("gold_unparseable", None, "stop", 2.0)] * 2)
    other = pa.Table.from_pylist([{"trace_id": f"q{at}#0", "value": 1.0} for at in range(2)], schema=SCORE)
    parquet.write_table(str(tmp_path / "column/a.parquet"), other)
    with pytest.raises(ColumnError):
        graded(tmp_path)


def test_one_threshold_decides_one_side() -> None:
    assert verdict_of(0.0, GradeSettings(right=0.0)) == "correct"
    assert verdict_of(-9.0, GradeSettings(right=0.0)) is None
    assert verdict_of(-9.0, GradeSettings(wrong=0.0)) == "wrong"
    with pytest.raises(ValueError, match="nothing is decided"):
        GradeSettings()
