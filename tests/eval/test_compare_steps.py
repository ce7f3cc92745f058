"""A column of steps against another one: every number by brute force, every sample accounted for."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from redi_ray.config.step_judges import CompareSettings, ProblemPart
from redi_ray.data.ask.questions import in_part
from redi_ray.data.columns import ColumnError
from redi_ray.eval.compare_steps import compare
from redi_ray.eval.steps import best_in_hindsight, first_below, first_error_scores
from redi_ray.schemas import SPAN_SCORE, VERIFIED_TRACE
from redi_ray.store import parquet
from redi_ray.text.step_judgement import up_to_first_wrong

R, W, U = "right", "wrong", "unseen"


def spans(labels: list[str | None], values: list[float | None], step: int = 4) -> list[dict[str, Any]]:
    told = zip(labels, values, strict=True)
    return [
        {"turn": 0, "start": step * n, "end": step * (n + 1), "label": a, "value": b} for n, (a, b) in enumerate(told)
    ]


def write(folder: Path, mine: list[Any], theirs: list[Any]) -> list[tuple[str, str, str]]:
    """One shard; the samples are `p<n>#0`."""
    ids = [f"p{n}#0" for n in range(len(mine))]
    fixed = {"problem": "x", "completion": "x", "sample_index": 0, "verdict": "wrong", "verdict_by": []}
    rows = [{"trace_id": key, "problem_id": key[:-2], **fixed} for key in ids]
    parquet.write_table(str(folder / "samples.parquet"), pa.Table.from_pylist(rows, schema=VERIFIED_TRACE))
    for name, column in (("mine", mine), ("theirs", theirs)):
        told = [{"trace_id": key, "spans": one} for key, one in zip(ids, column, strict=True)]
        parquet.write_table(str(folder / f"{name}.parquet"), pa.Table.from_pylist(told, schema=SPAN_SCORE))
    return [tuple(str(folder / f"{name}.parquet") for name in ("samples", "mine", "theirs"))]


def made(count: int) -> tuple[list[Any], list[Any], list[int]]:
    """What a judge without labels says, what is true, and how many steps there are."""
    generator, mine, theirs, sizes = random.Random(1), [], [], []
    for _ in range(count):
        size = generator.randint(1, 6)
        wrong = generator.choice([None, *range(size)])
        truth = [R] * size if wrong is None else up_to_first_wrong([*[R] * wrong, W], size)
        values = [round(generator.random() * (0.6 if label == W else 1.0), 2) for label in truth]
        mine.append(spans([None] * size, values))
        theirs.append(spans(truth, [None] * size))
        sizes.append(size)
    return mine, theirs, sizes


def test_by_brute_force(tmp_path: Path):
    mine, theirs, _ = made(60)
    counts, scores = compare(write(tmp_path, mine, theirs), CompareSettings(threshold=0.4))
    assert counts == {"in": 60, "compared": 60, "without_prediction": 0}
    labels = [next((n for n, s in enumerate(one) if s["label"] == W), None) for one in theirs]
    named = [next((n for n, s in enumerate(one) if s["value"] < 0.4), None) for one in mine]
    assert {name: scores[name] for name in ("wrong_accuracy", "right_accuracy", "f1")} == first_error_scores(
        labels, named
    )
    seen = [(a["value"], b["label"] == R) for one, other in zip(mine, theirs, strict=True)
            for a, b in zip(one, other, strict=True) if b["label"] != U]  # fmt: skip
    pairs = [(g > b) + (g == b) / 2 for g, right in seen if right for b, good in seen if not good]
    assert scores["auc"] == pytest.approx(np.mean(pairs), abs=1e-6)  # numbers of a column are float32
    assert scores["steps_seen"] == len(seen)
    assert scores["best_in_hindsight"]["f1"] >= scores["f1"]
    assert scores["baselines"]["lengths"]["auc"] == 0.5, "all steps are as long"
    assert 0.35 < scores["baselines"]["chance"]["auc"] < 0.65


def test_what_judges_nothing_counts_against_it(tmp_path: Path):
    """A sample without a prediction is a wrong one; what cannot be compared is left out, with its reason."""
    truth = spans([R, W, U], [None] * 3)
    mine = [spans([R, W, U], [0.9, 0.1, 0.9]), None, spans([None, None, None], [0.9, None, 0.1]), spans([R, W], [0.9, 0.1]),
            truth]  # fmt: skip
    counts, scores = compare(write(tmp_path, mine, [truth, truth, truth, truth, None]), CompareSettings())
    assert counts == {"in": 5, "compared": 3, "without_prediction": 1, "other_steps": 1, "not_known": 1}
    assert scores["wrong_accuracy"] == pytest.approx(100 / 3)
    assert scores["right_accuracy"] is scores["f1"] is None
    assert (scores["auc"], scores["steps_without_number"]) == (1.0, 3)
    parquet.write_table(
        str(tmp_path / "mine.parquet"), parquet.read_schema(str(tmp_path / "mine.parquet")).empty_table()
    )
    with pytest.raises(ColumnError, match="row 0 is missing"):
        compare([tuple(str(tmp_path / f"{name}.parquet") for name in ("samples", "mine", "theirs"))], CompareSettings())


def test_parts_of_the_problems_have_none_in_common():
    ids = [f"p{n}" for n in range(2000)]
    first, rest = ProblemPart(up_to=0.8), ProblemPart(above=0.8)
    found = Counter((in_part(first, key), in_part(rest, key)) for key in ids)
    assert found.keys() == {(True, False), (False, True)}
    assert 1500 < found[True, False] < 1700
    assert [in_part(ProblemPart(up_to=0.8, seed=1), key) for key in ids] != [in_part(first, key) for key in ids]


def test_the_best_threshold_in_hindsight():
    values, starts, labels = np.array([0.9, 0.3, 0.8, 0.7, 0.6]), np.array([0, 2, 4]), [1, None, None]
    assert first_below(values, starts, 0.65).tolist() == [1, -1, 0]
    found = best_in_hindsight(labels, values, starts)
    assert found["f1"] == 100.0
    assert 0.3 < (found["threshold"] or 0) <= 0.6
