"""Every row of a source ends as a problem, a drop by rule, or a reject with its reason; broken files are errors."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from problem_sources import collect, openr1, write_lines

from redi_ray.config.data import Columns, FilesSource, OpenR1Source
from redi_ray.config.problems import DevelopmentSplit
from redi_ray.config.worlds import ArithmeticSource
from redi_ray.data.sources.problems import HELD_OUT
from redi_ray.data.sources.readers import DataError
from redi_ray.schemas import votes_of
from redi_ray.store import parquet, storage

pytestmark = pytest.mark.usefixtures("ray_session")


def test_openr1_rows_by_the_paper_rule(tmp_path: Path):
    """Every oddity that the rule names (METHOD, Data), and what becomes of it."""
    rows = [
        openr1("kept"),
        openr1("upper case", problem_is_valid="YES"),
        openr1("invalid", problem_is_valid="No"),
        openr1("unsaid", problem_is_valid=None),
        openr1("school", source="cn_k12"),
        openr1("no problem", problem=None),
        openr1("empty problem", problem=" "),
        openr1("no generations", generations=[], llama=(), verified=()),
        openr1("null generations", generations=None),
        openr1("short verdicts", llama=(True,)),
        openr1("no verdicts", verified=None),
        openr1("disagreement", llama=(True, True), verified=(False, True)),
        openr1("missing vote", llama=(None, True), verified=(True, True)),
        openr1("kept"),  # the same uuid again is a row of its own
    ]
    path = tmp_path / "openr1.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    counts, problems, traces, _ = collect(OpenR1Source(paths=[str(path)]), tmp_path / "out")
    assert counts.dropped == {
        "problem_not_valid": 2, "source_left_out": 1, "no_problem": 2, "no_generations": 2, "verdict_length": 2,
    }  # fmt: skip
    assert [row["problem_id"] for row in problems] == ["kept", "upper case", "disagreement", "missing vote", "kept~14"]
    votes = {
        row["trace_id"]: (votes_of(row["votes"]).get("judge"), votes_of(row["votes"]).get("math_verify"))
        for row in traces
    }
    assert votes["disagreement#0"] == ("correct", "wrong")
    assert votes["missing vote#0"] == (None, "correct")
    assert votes["kept#1"] == ("wrong", "wrong")


def test_columns_reach_into_nested_rows_and_several_completions(tmp_path: Path):
    row = {"q": "1+1", "a": 2.0, "small": {"text": "A: 2", "ok": True}, "large": {"text": "A: 3", "ok": False}}
    columns = Columns(problem="q", answer="a", completion=["small.text", "large.text"], label=["small.ok", "large.ok"])
    source = FilesSource(paths=[write_lines(tmp_path / "x.jsonl", [row])], columns=columns)
    _, problems, traces, _ = collect(source, tmp_path / "out")
    assert problems[0]["answer"] == "2"
    assert [(t["completion"], t["model"], votes_of(t["votes"]).get("label"), t["sample_index"]) for t in traces] == [
        ("A: 2", "small", "correct", 0),
        ("A: 3", "large", "wrong", 1),
    ]


def test_one_trace_per_row_is_gathered_under_its_problem(tmp_path: Path):
    rows = [{"problem": f"p{i % 2}", "answer": "1", "completion": f"c{i}"} for i in range(5)]
    source = FilesSource(paths=[write_lines(tmp_path / "x.jsonl", rows)], columns=Columns(completion="completion"))
    counts, problems, traces, _ = collect(source, tmp_path / "out")
    assert len(problems) == 2
    assert counts.dropped == {"same_problem_again": 3}
    first = problems[0]["problem_id"]
    assert [t["completion"] for t in traces if t["problem_id"] == first] == ["c0", "c2", "c4"]
    assert [t["sample_index"] for t in traces if t["problem_id"] == first] == [0, 1, 2]


def test_imported_traces_say_why_they_ended_or_show_it(tmp_path: Path):
    """What the data say counts; else a thought that is never closed was cut off, and a tail of repeats is a loop."""
    rows = [
        {"problem": "p", "answer": "1", "completion": completion, "why": why}
        for completion, why in (
            ("<think>\nso it", None),
            ("<think>\nso it", "stop"),
            ("<think>\n" + "Wait, no. " * 200, None),
            ("<think>\nyes.\n</think>\n\\boxed{1}", None),
            ("<think>\nyes.\n</think>\n\\boxed{1}", "EOS_TOKEN"),
            ("<think>\nso it", {"type": "length", "length": 7}),
            ("<think>\nyes.\n</think>\n\\boxed{1}", "abort"),
            ("<think>\n" + "Wait, no. " * 200, "a word of tomorrow"),
        )
    ]
    columns = Columns(completion="completion", finish_reason="why")
    source = FilesSource(paths=[write_lines(tmp_path / "x.jsonl", rows)], columns=columns)
    counts, _, traces, _ = collect(source, tmp_path / "out")
    assert [trace["finish_reason"] for trace in traces] == [
        *("length", "stop", "loop", None, "stop", "length", "unfinished", "unfinished")
    ]
    assert counts.traces["finish_reasons"] == {"length": 2, "stop": 2, "loop": 1, "unknown": 1, "unfinished": 2}


def test_rows_that_do_not_fit_are_rejected_with_their_place_and_reason(tmp_path: Path):
    rows = [
        {"problem_id": "a", "problem": "p", "answer": "1", "completion": "x"},
        "{broken\n",
        "[1, 2]\n",
        {"problem_id": "b", "answer": "1"},
        {"problem_id": "c", "problem": 7, "answer": "1"},
        {"problem_id": "d", "problem": "p"},
        {"problem_id": "a", "problem": "another", "answer": "1"},
        {"problem_id": "e", "problem": "p2", "answer": "1", "completion": None},
    ]
    columns = Columns(completion="completion")
    source = FilesSource(paths=[write_lines(tmp_path / "x.jsonl", rows)], columns=columns)
    counts, problems, traces, rejects = collect(source, tmp_path / "out")
    assert counts.rejected == {"unreadable_row": 2, "no_problem": 2, "no_answer": 1, "conflicting_problem_id": 1}
    assert counts.traces == {
        "in": 2, "out": 1, "dropped": {}, "rejected": {"no_completion": 1}, "finish_reasons": {"unknown": 1}
    }  # fmt: skip
    told = {row["where"]: (row["reason"], row["detail"]) for row in rejects}
    assert told["x.jsonl:2"][0] == "unreadable_row"
    assert "not JSON" in told["x.jsonl:2"][1]
    assert "column `problem` is missing" in told["x.jsonl:4"][1]
    assert (len(problems), len(traces)) == (2, 1)


def test_a_misspelt_column_is_an_error_that_shows_the_columns(tmp_path: Path):
    source = FilesSource(
        paths=[write_lines(tmp_path / "x.jsonl", [{"question": "p", "answer": "1"}])], columns=Columns()
    )
    with pytest.raises(DataError, match=r"no usable problem in 1 rows.*problems.source.columns"):
        collect(source, tmp_path / "out")


def test_damaged_files_are_errors_that_name_the_file(tmp_path: Path):
    whole = tmp_path / "whole.parquet"
    pq.write_table(pa.table({"problem": ["p"] * 1000, "answer": ["1"] * 1000}), whole)
    (tmp_path / "cut.parquet").write_bytes(whole.read_bytes()[:-100])
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"problem": "p", "answer": "1"}\n' * 1000)[:-20])
    (tmp_path / "cut.json").write_text('[{"problem": "p"')
    for name, told in (
        ("cut.parquet", "not a complete Parquet file"),
        ("cut.jsonl.gz", "damaged or cut off"),
        ("cut.json", "not valid JSON"),
        ("none.jsonl", "is not there"),
    ):
        with pytest.raises(DataError, match=told) as caught:
            collect(FilesSource(paths=[str(tmp_path / name)]), tmp_path / "out")
        assert name in str(caught.value)
    with pytest.raises(DataError, match="paths is empty"):
        collect(FilesSource(paths=[]), tmp_path / "out")


def test_folders_gzip_and_max_problems(tmp_path: Path):
    (tmp_path / "in").mkdir()
    lines = b"".join(json.dumps({"problem": f"p{i}", "answer": "1"}).encode() + b"\n" for i in range(5))
    (tmp_path / "in" / "b.jsonl.gz").write_bytes(gzip.compress(lines))
    pq.write_table(pa.table({"problem": ["q"], "answer": ["1"]}), tmp_path / "in" / "a.parquet")
    counts, problems, _, _ = collect(FilesSource(paths=[str(tmp_path / "in")]), tmp_path / "out", max_problems=4)
    assert [row["problem"] for row in problems] == ["q", "p0", "p1", "p2"]
    assert counts.dropped == {"over_max_problems": 2}


def read(out: Path, table: str) -> list[dict]:
    return [row for part in parquet.read_tables(storage.list_files(f"{out}/{table}")) for row in part.to_pylist()]


def test_development_problems_are_held_out_whatever_the_order_ids_and_files(tmp_path: Path):
    """Two traces a problem, one row each: the same problems under another order, other ids and two files; none of them
    leaves a trace, and problems and traces add up. A problem that comes again in other spelling stays on its side."""
    rows = [
        {"id": f"p{i}", "problem": f"What is {i} + {i}?", "answer": str(2 * i), "completion": f"c{i}{k}"}
        for i in range(200)
        for k in range(2)
    ]
    again = [
        {**row, "id": f"again-{row['id']}", "problem": f"What  is ${row['problem'][8:-1]}$ ?"} for row in rows[::2]
    ]
    columns, dev = Columns(problem_id="id", completion="completion"), DevelopmentSplit(share=0.2)
    (tmp_path / "two").mkdir()
    write_lines(tmp_path / "two" / "a.jsonl", [{**row, "id": f"x{row['id']}"} for row in reversed(rows[100:])])
    write_lines(tmp_path / "two" / "b.jsonl", [{**row, "id": f"x{row['id']}"} for row in rows[:100]])
    one = FilesSource(paths=[write_lines(tmp_path / "one.jsonl", [*rows, *again])], columns=columns)
    two = FilesSource(paths=[str(tmp_path / "two")], columns=columns)

    counts, problems, traces, _ = collect(one, tmp_path / "out", dev=dev)
    held_out = read(tmp_path / "out", "dev")
    texts = {row["problem"] for row in held_out}
    first, spelled_otherwise = ([r for r in held_out if r["problem_id"].startswith(p)] for p in ("p", "again-"))
    assert 20 < len(first) < 60
    assert {row["problem_id"] for row in spelled_otherwise} == {f"again-{row['problem_id']}" for row in first}
    assert counts.dev == counts.dropped[HELD_OUT] == len(held_out)
    assert counts.counts["out"] == len(problems) == 400 - len(held_out)
    assert not texts & {row["problem"] for row in problems + traces}
    lost = 3 * len(first)  # two rows of the one spelling, one of the other
    reasons = {"unknown": len(traces)}
    assert counts.traces == {
        "in": 600, "out": len(traces), "dropped": {HELD_OUT: lost}, "rejected": {}, "finish_reasons": reasons
    }  # fmt: skip
    assert len(traces) == 600 - lost
    collect(two, tmp_path / "other", dev=dev)
    assert {row["problem"] for row in read(tmp_path / "other", "dev")} == {row["problem"] for row in first}
    collect(two, tmp_path / "seed", dev=DevelopmentSplit(share=0.2, seed=1))
    assert {row["problem"] for row in read(tmp_path / "seed", "dev")} != {row["problem"] for row in first}


def test_what_cannot_be_judged_is_not_held_out_and_the_limit_counts_the_rest(tmp_path: Path):
    labelled = [{"problem": f"p{i}", "answer": None, "completion": "c", "ok": True} for i in range(50)]
    columns = Columns(completion="completion", label="ok")
    source = FilesSource(paths=[write_lines(tmp_path / "x.jsonl", labelled)], columns=columns)
    counts, _, _, _ = collect(source, tmp_path / "out", dev=DevelopmentSplit(share=0.9))
    assert (counts.dev, counts.counts["out"]) == (0, 50)
    rows = [{"problem": f"p{i}", "answer": "1"} for i in range(100)]
    source = FilesSource(paths=[write_lines(tmp_path / "y.jsonl", rows)])
    counts, problems, _, _ = collect(source, tmp_path / "few", max_problems=20, dev=DevelopmentSplit(share=0.5))
    assert len(problems) == 20
    assert 0 < counts.dev < 80
    assert counts.dropped == {HELD_OUT: counts.dev, "over_max_problems": 80 - counts.dev}


def test_the_built_in_world_publishes_its_development_split(tmp_path: Path):
    counts, problems, _, _ = collect(ArithmeticSource(num_problems=30, num_dev=7, num_test=5), tmp_path)
    dev = read(tmp_path, "dev")
    assert counts.dev == len(dev) == 7
    assert not {row["problem"] for row in dev} & {row["problem"] for row in problems + read(tmp_path, "test")}
