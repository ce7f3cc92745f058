"""Looking back: the counts that are known of real traces, and that problems held fixed tell difficulty from behaviour."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from redi_ray.config.reflection import ReflectSettings
from redi_ray.data.reflection import Reflecting, reflect_shard
from redi_ray.eval.reflection import Samples, reflection, statistics
from redi_ray.schemas import VERIFIED_TRACE
from redi_ray.store import parquet

WAIT = ReflectSettings().behaviours | {"wait": [r"\bwait\b"]}


def told_of(folder: Path, rows: list[dict[str, Any]], behaviours: dict[str, list[str]] = WAIT) -> dict[str, Any]:
    none = {name: None for name in VERIFIED_TRACE.names} | {"verdict_by": [], "sample_index": 0}
    table = pa.Table.from_pylist([{**none, **row} for row in rows], schema=VERIFIED_TRACE)
    parquet.write_table(str(folder / "verified" / "part-0"), table)
    how = Reflecting(str(folder / "verified"), str(folder / "out"), ReflectSettings(behaviours=behaviours))
    assert [reflect_shard("part-0", how) for _ in range(2)] == [len(rows)] * 2, "a shard that is done is counted"
    return reflection([str(folder / "out" / "part-0")], list(behaviours))


@pytest.mark.parametrize(
    ("name", "samples", "hits", "right_with", "right_without", "wait"),
    [
        ("sky_long_amc23", 48, 181, 24, (235, 352), (357, 11587)),
        ("sky_math500", 66, 121, 19, (1941, 2934), (467, 3077)),
    ],
)
def test_counts_that_are_known_of_real_traces(
    name: str, samples: int, hits: int, right_with: int, right_without: Any, wait: Any, test_data: Path, tmp_path: Path
) -> None:
    with gzip.open(test_data / f"traces/{name}.jsonl.gz", "rt") as file:
        found = [json.loads(line) for line in file]
    rows = [
        {"trace_id": f"{n}", "problem_id": row["problem_id"], "problem": row["problem"], "completion": row["trace"],
         "verdict": "correct" if row["correct_third_party"] else "wrong"}
        for n, row in enumerate(found)
    ]  # fmt: skip
    told = told_of(tmp_path, rows)["behaviours"]
    keywords = told["keywords"]
    assert (keywords["samples"], keywords["hits"], keywords["right_with"]) == (samples, hits, right_with)
    assert (keywords["right_without"], keywords["without"]) == right_without
    assert (told["wait"]["samples"], told["wait"]["hits"]) == wait


def test_difficulty_is_no_behaviour() -> None:
    """Hard problems are wrong and doubted, easy ones neither: pooled, doubt looks harmful; within problems it is not there."""
    generator = np.random.default_rng(0)
    problem = np.repeat(np.arange(400), 8)
    hard = problem < 200
    right = generator.random(len(problem)) < np.where(hard, 0.25, 0.85)
    doubts = (generator.random(len(problem)) < np.where(hard, 0.8, 0.1)).astype(int)
    verdict = np.where(right, "correct", "wrong")
    length = np.full(len(problem), 500.0)
    found = statistics(Samples(problem, verdict, length, np.full(len(problem), np.nan), {"doubt": doubts}))
    share = found["behaviours"]["doubt"]["right_less_wrong"]["share"]
    assert share["pooled"] < -0.3
    low, high = share["within"]["ci95"]
    assert low < 0 < high < low + 0.15
    accuracy = found["behaviours"]["doubt"]["accuracy_with_less_without"]
    assert accuracy["pooled"] < -0.3
    assert accuracy["within"]["ci95"][0] < 0 < accuracy["within"]["ci95"][1]
    assert found["length"]["tokens"] == {"pooled": None, "within": None}
    assert found["length"]["characters"]["within"]["difference"] == 0


def test_by_hand(tmp_path: Path) -> None:
    """A problem with both verdicts, one with right samples alone; a time-out is neither; of turns only the model's own count."""
    turns = [
        {"role": "assistant", "content": "x"},
        {"role": "tool", "content": "wait"},
        {"role": "assistant", "content": "y"},
    ]
    texts = [("a", "correct", "Wait, waiting. WAIT"), ("a", "wrong", "no"), ("a", "wrong", "wait"), ("a", "timeout", "wait"),
             ("b", "correct", "wait")]  # fmt: skip
    rows = [
        {"trace_id": f"{n}", "problem_id": problem, "problem": "?", "completion": text, "verdict": verdict}
        for n, (problem, verdict, text) in enumerate(texts)
    ]
    rows.append({**rows[-1], "trace_id": "5", "completion": "y", "turns": turns})
    found = told_of(tmp_path, rows, {"wait": [r"\bwait\b"]})
    wait = found["behaviours"]["wait"]
    assert (wait["samples"], wait["hits"], wait["most_in_one"], wait["right_with"]) == (4, 5, 2, 2)
    assert (found["problems"], found["problems_with_both"]) == (2, 1)
    assert wait["right_less_wrong"]["share"]["pooled"] == pytest.approx(2 / 3 - 1 / 2)
    assert wait["right_less_wrong"]["share"]["within"]["difference"] == pytest.approx(1 - 1 / 2)
    assert wait["by_verdict"]["timeout"] == {"share": 1.0, "hits": 1.0, "per_1000": 250.0}
    # problem a: with it 1 right of 2, without it 0 of 1; problem b: 1 of 1 and 1 of 1
    assert wait["accuracy_with_less_without"]["within"]["difference"] == pytest.approx((0.5 + 0.0) / 2)


@pytest.mark.parametrize(
    ("behaviours", "told"),
    [
        ({"a": ["("]}, "no regular expression"),
        ({"a": ["x*"]}, "matches the empty text"),
        ({"a": ["Wait"]}, "write it in lower case"),
        ({"a": []}, "leave the behaviour out"),
        ({"a b": ["x"]}, "letters, digits and _"),
        ({}, "at least 1"),
    ],
)
def test_what_cannot_be_counted_is_refused(behaviours: dict[str, list[str]], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        ReflectSettings(behaviours=behaviours)
