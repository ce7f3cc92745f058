"""Labelled steps as problems for a judge: each question once, by the word of most samples; every step is accounted for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from redi_ray.config.locators import LocateStep
from redi_ray.config.step_judges import AskStep, ProblemPart, StateSettings, StateStep
from redi_ray.data.ask.questions import Asking, ask
from redi_ray.data.ask.stated import Stating, state
from redi_ray.data.columns import ColumnError
from redi_ray.schemas import PROBLEM, SCORE, SPAN_SCORE, VERIFIED_TRACE
from redi_ray.store import parquet, storage
from redi_ray.text.steps import split_steps

R, N, W, U = "right", "neutral", "wrong", "unseen"
QUESTION = {"prompt": "{problem}|{before}|{step}", "question": "==", "yes": "1", "no": "0", "numbered": False}
SAMPLES = [
    ("a", "1+1=2\n2+1=3\n3+1=4", [R, R, R]),
    ("a", "1+1=2\n2+1=4\n4+1=5", [R, W, U]),
    ("a", "1+1=2\n2+1=3\n3+1=5", [W, U, U]),  # a rollout label that is wrong: two against one
    ("b", "1+1=2\n2+2=4", [R, N]),
    ("b", "1+1=2", [W]),  # one against one
    ("c", "3+3=6", None),
    ("d", "4+4=8\n\n", [R, R]),
]


def asking(folder: Path, **changes: Any) -> Asking:
    settings = AskStep.model_validate({"do": "ask", "of": "x", "at": "y", "question": QUESTION, **changes}).settings
    return Asking(
        str(folder / "verified"), str(folder / "column"), str(folder / "out"), settings, str(folder / "tokenizer")
    )


def write(folder: Path, shards: int = 2) -> list[str]:
    """The samples and their column; names of the shards."""
    rows, column = [], []
    for number, (problem, text, labels) in enumerate(SAMPLES):
        key = f"{problem}#{number}"
        rows.append({"problem_id": problem, "problem": problem, "source": "s", "trace_id": key, "sample_index": number,
                     "completion": text, "verdict": "wrong", "verdict_by": []})  # fmt: skip
        places = split_steps(text, "equations")
        if problem == "d":
            places = [(0, 6), (6, 99)]
        told = zip(places, labels or [], strict=labels is not None)
        spans = [{"turn": 0, "start": a, "end": b, "label": label, "value": None} for (a, b), label in told]
        column.append({"trace_id": key, "spans": spans if labels is not None else None})
    for shard in range(shards):
        name = f"round-000/part-{shard}.parquet"
        for table, mine, schema in (("verified", rows, VERIFIED_TRACE), ("column", column, SPAN_SCORE)):
            made = pa.Table.from_pylist(mine[shard::shards], schema=schema)
            parquet.write_table(str(folder / table / name), made)
    return [f"round-000/part-{shard}.parquet" for shard in range(shards)]


def questions(folder: Path) -> list[dict[str, Any]]:
    shards = storage.list_files(str(folder / "out/problems"))
    return [row for table in parquet.read_tables(shards) for row in table.to_pylist()]


@pytest.fixture
def folder(tmp_path: Path, bpe_tokenizer: str) -> Path:
    (tmp_path / "tokenizer").symlink_to(bpe_tokenizer)
    return tmp_path


def test_each_question_once_by_the_word_of_most(ray_session, folder: Path):
    counts = ask(write(folder), asking(folder))
    found = questions(folder)
    assert {row["problem"]: row["answer"] for row in found} == {
        "a||1+1=2": "1",
        "a|1+1=2|2+1=3": "1",
        "a|1+1=2\n2+1=3|3+1=4": "1",
        "a|1+1=2|2+1=4": "0",
        "b|1+1=2|2+2=4": "0",
        "d||4+4=8": "1",
    }
    assert len({row["problem_id"] for row in found}) == len(found) == counts["out"] == 6
    assert all(row["problem_id"].startswith(row["problem"][0] + "@") and row["source"] == "s" for row in found)
    assert {name: counts[name] for name in sorted(counts) if not name.startswith(("out", "samples"))} == {
        "duplicate": 3, "label_unseen": 3, "step_outside_its_text": 1, "steps": 14, "steps/contradicted": 2, "undecided": 1,
    }  # fmt: skip
    assert (counts["samples"], counts["samples/not_located"], counts["out/1"], counts["out/0"]) == (7, 1, 4, 2)
    before = {path: path.read_bytes() for path in (folder / "out/problems").glob("*/*")}
    assert ask(write(folder), asking(folder)) == counts
    assert before == {path: path.read_bytes() for path in before}


def test_the_samples_of_a_part_of_the_problems(ray_session, folder: Path):
    names, half = write(folder), {"up_to": 0.5}
    parts = []
    for part in (half, {"above": 0.5}):
        ask(names, asking(folder, part=part))
        parts.append({row["problem"][0] for row in questions(folder)})
        for made in ("out/counts", "out/asked", "out/problems"):
            storage.delete(str(folder / made))
    assert parts[0] | parts[1] == {"a", "b", "d"}
    assert not parts[0] & parts[1]
    assert ProblemPart.model_validate(half).seed == 42


def test_a_column_at_another_grain_is_refused(ray_session, folder: Path):
    names = write(folder)
    parquet.write_table(str(folder / "column" / names[0]), SCORE.empty_table())
    with pytest.raises(ColumnError, match="at grain row; one at grain span"):
        ask(names, asking(folder))


def test_answers_are_stated(ray_session, tmp_path: Path):
    """A trace for each problem, under shards that verification finds; one without an answer is counted."""
    rows = [
        {"problem_id": f"q{n}", "problem": "?", "answer": None if n == 2 else str(n % 2), "source": "s"}
        for n in range(5)
    ]
    for shard in range(2):
        made = pa.Table.from_pylist(rows[shard::2], schema=PROBLEM)
        parquet.write_table(str(tmp_path / f"problems/round-000/part-{shard}.parquet"), made)
    how = Stating(str(tmp_path / "problems"), str(tmp_path), StateSettings(text="<think>\n</think>\n=={answer}{{x}}"))
    names = [f"round-000/part-{shard}.parquet" for shard in range(2)]
    assert state(names, how) == Counter({"in": 5, "out": 4, "no_reference_answer": 1})
    found = [
        row for table in parquet.read_tables(storage.list_files(str(tmp_path / "traces"))) for row in table.to_pylist()
    ]
    assert {row["trace_id"]: row["completion"][-5:] for row in found} == {
        "q0#0": "==0{x}"[1:], "q1#0": "=1{x}", "q3#0": "=1{x}", "q4#0": "=0{x}"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "settings", "told"),
    [
        (AskStep, {"do": "ask", "of": "a", "at": "b", "wrong": ["right"]}, "a label is right or wrong"),
        (AskStep, {"do": "ask", "of": "a", "at": "b", "part": {"above": 0.5, "up_to": 0.5}}, "leave no problem"),
        (StateStep, {"do": "state", "problems": "a", "text": "Yes"}, r"needs \{answer\}"),
        (LocateStep, {"do": "locate", "of": "a", "locator": {"kind": "step_judge", "question": {"yes": True}}}, "string"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be(kind: Any, settings: dict[str, Any], told: str):
    with pytest.raises(ValidationError, match=told):
        kind.model_validate(settings)
