"""Labels, finish reasons, answers, chats and ids in the forms that data have them: read strictly, or told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from problem_sources import collect, openr1, write_lines

from redi_ray.config.data import Columns, DevelopmentSplit, FilesSource, OpenR1Source
from redi_ray.data.sources.problems import HELD_OUT, is_held_out
from redi_ray.schemas import votes_of
from redi_ray.text.dialogue import dialogue_of

pytestmark = pytest.mark.usefixtures("ray_session")


def test_a_label_of_no_clear_meaning_is_no_vote(tmp_path: Path):
    """`bool("False")` is true. Labels that cannot be read cost their traces, and say so."""
    labels = ["False", "no", 0.0, True, "correct", None, float("nan"), -1.0, 0.1, "maybe", [True]]
    rows = [{"problem": "p", "answer": "1", "completion": f"c{i}", "ok": label} for i, label in enumerate(labels)]
    columns = Columns(completion="completion", label="ok")
    source = FilesSource(paths=[write_lines(tmp_path / "x.jsonl", rows)], columns=columns)
    counts, _, traces, rejects = collect(source, tmp_path / "out")
    assert [votes_of(trace["votes"]).get("label") for trace in traces] == ["wrong"] * 3 + ["correct"] * 2 + [None] * 2
    assert counts.traces["rejected"] == {"bad_label": 4}
    assert "column `ok` holds float '-1.0', neither true nor false" in rejects[0]["detail"]
    assert any("4 traces rejected as bad_label; the first is x.jsonl:8" in warning for warning in counts.warnings)
    misspelt = source.model_copy(update={"columns": Columns(completion="completion", label="okay")})
    counts, _, _, _ = collect(misspelt, tmp_path / "misspelt")
    assert counts.warnings == ["none of 11 traces has a label; check problems.source.columns.label (okay)"]


def test_each_of_several_completions_needs_a_label(tmp_path: Path):
    shapes = [
        (["a", "b"], True), (["a", "b"], [1]), (["a"], "no"), (["a", "b"], ["true", 0]), (["a", "b"], None),
        (["a", "b"], [[True], False]),
    ]  # fmt: skip
    rows = [{"problem": f"p{i}", "answer": "1", "c": texts, "ok": label} for i, (texts, label) in enumerate(shapes)]
    columns = Columns(completion="c", label="ok")
    source = FilesSource(paths=[write_lines(tmp_path / "x.jsonl", rows)], columns=columns)
    counts, _, traces, rejects = collect(source, tmp_path / "out")
    assert [votes_of(trace["votes"]).get("label") for trace in traces] == [
        "wrong",
        "correct",
        "wrong",
        None,
        None,
        "wrong",
    ]
    assert counts.traces["rejected"] == {"label_length": 4, "bad_label": 1}
    assert "1 in column `ok` for 2 in `c`; write one label for each completion" in rejects[0]["detail"]


def test_each_of_several_completions_needs_a_finish_reason(tmp_path: Path):
    """One for several, or too few, says of none whether it was cut off; null for all is no more than not known."""
    shapes = [
        (["a", "b"], "length"),
        (["a", "b"], ["stop"]),
        (["a", "b"], None),
        (["a", "b"], ["stop", None]),
        ("a", "length"),
    ]
    rows = [{"problem": f"p{i}", "answer": "1", "c": texts, "why": why} for i, (texts, why) in enumerate(shapes)]
    source = FilesSource(
        paths=[write_lines(tmp_path / "x.jsonl", rows)], columns=Columns(completion="c", finish_reason="why")
    )
    counts, _, traces, rejects = collect(source, tmp_path / "out")
    assert [trace["finish_reason"] for trace in traces] == [None, None, "stop", None, "length"]
    assert counts.traces["rejected"] == {"finish_reason_length": 4}
    assert "1 in column `why` for 2 in `c`; write one finish_reason for each completion" in rejects[0]["detail"]


def test_openr1_says_which_generations_were_cut_off(tmp_path: Path):
    rows = [openr1("cut", finish_reasons=["length", "stop"]), openr1("unsaid", finish_reasons=None)]
    source = OpenR1Source(paths=[write_lines(tmp_path / "x.jsonl", rows)])
    _, _, traces, _ = collect(source, tmp_path / "out")
    assert [trace["finish_reason"] for trace in traces] == ["length", "stop", None, None]


def test_verdict_lists_of_openr1_are_read_as_strictly(tmp_path: Path):
    rows = [
        openr1("text", llama=("False", "yes"), verified=(0, 1.0), problem_is_valid=True),
        openr1("score", llama=(-1.0, 1), verified=(0, 1)),
        openr1("no lists", correctness={"llama_verification": "True", "math_verify_reparsed_answer": [True, True]}),
        openr1("no object", correctness="[True, False]"),
    ]
    source = OpenR1Source(paths=[write_lines(tmp_path / "x.jsonl", rows)])
    counts, _, traces, _ = collect(source, tmp_path / "out")
    votes = {
        row["trace_id"]: (votes_of(row["votes"]).get("judge"), votes_of(row["votes"]).get("math_verify"))
        for row in traces
    }
    assert votes == {
        "text#0": ("wrong", "wrong"), "text#1": ("correct", "correct"), "score#0": ("correct", "correct")
    }  # fmt: skip
    assert counts.traces["rejected"] == {"bad_vote": 1}
    assert (counts.rejected, counts.dropped) == ({"bad_vote": 1}, {"verdict_length": 1})


def test_answers_and_chats_by_their_forms(tmp_path: Path):
    """Golds that are none never make a trace wrong; what is no answer says what it is."""
    user, assistant = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
    answers = [1e-05, ["5"], True, float("nan"), "None", "N/A", "proof", {"value": 5}, ["1", "2"]]
    rows: list[Any] = [{"problem": f"p{i}", "answer": answer} for i, answer in enumerate(answers)]
    rows += [
        {"problem": [user], "answer": "1", "c": [user, assistant]},
        {"problem": [{"role": "system", "content": "s"}, user], "answer": "1"},
    ]
    source = FilesSource(paths=[write_lines(tmp_path / "x.jsonl", rows)], columns=Columns(completion="c"))
    counts, problems, traces, rejects = collect(source, tmp_path / "out")
    assert [(row["problem"], row["answer"]) for row in problems] == [
        ("p0", "0.00001"), ("p1", "5"), ("p2", "True"), ("q", "1")
    ]  # fmt: skip
    assert [trace["completion"] for trace in traces] == ["a"]
    assert counts.rejected == {"no_answer": 4, "bad_answer": 2, "system_turn": 1}
    details = {row["where"]: row["detail"] for row in rejects if not row["reason"].startswith("trace")}
    assert details["x.jsonl:5"] == "column `answer` holds str 'None', which stands for no answer"
    assert "column `answer` holds dict" in details["x.jsonl:8"]


def test_dialogues_are_problems_with_their_history(tmp_path: Path):
    """One column of chats is problem and trace: the trace is the last answer alone, and what cannot be read is told."""
    said = [{"role": role, "content": text} for role, text in zip(["user", "assistant"] * 3, "abcdef", strict=True)]
    rows = [{"messages": said[:count], "answer": "1"} for count in (1, 2, 3, 4, 6)]
    rows += [{"messages": [*said[:2], {"role": "tool", "content": "t"}, said[2]], "answer": "1"}]
    columns = Columns(problem="messages", completion="messages", problem_id=None)
    counts, problems, traces, rejects = collect(
        FilesSource(paths=[write_lines(tmp_path / "x.jsonl", rows)], columns=columns), tmp_path / "out"
    )
    assert [dialogue_of(row["problem"]) for row in problems] == [said[:1], said[:3], said[:5]]
    assert [(dialogue_of(row["problem"])[-1]["content"], row["completion"], row["turns"]) for row in traces] == [
        ("a", "b", None), ("c", "d", None), ("e", "f", None)
    ]  # fmt: skip
    assert counts.rejected == {"several_turns": 1}
    assert counts.counts["in"] == counts.counts["out"] + sum(counts.dropped.values()) + 1 == 6
    assert "Make turns in a row one" in rejects[-1]["detail"]


def test_ids_that_start_again_in_each_file_lose_no_row(tmp_path: Path):
    """Three files of three problems, each numbered from 0: nine problems, told; one file that does so is told as well."""
    for name in "abc":
        (tmp_path / "in" / name).mkdir(parents=True)
        rows = [{"problem_id": i, "problem": f"{name}{i}", "answer": i, "c": f"{name}{i}"} for i in range(3)]
        write_lines(tmp_path / "in" / name / "x.jsonl", rows * 2)
    source = FilesSource(paths=[str(tmp_path / "in")], columns=Columns(completion="c"))
    counts, problems, traces, _ = collect(source, tmp_path / "out")
    assert [row["problem"] for row in problems] == [f"{name}{i}" for name in "abc" for i in range(3)]
    assert len({row["problem_id"] for row in problems}) == 9
    assert (counts.rejected, counts.dropped) == ({}, {"same_problem_again": 9})
    assert len({row["trace_id"] for row in traces}) == 18
    assert all(row["completion"] == row["problem"] for row in traces)
    assert counts.warnings[0].startswith("6 problems have an id that names another problem in another file")

    one = [{"problem_id": i % 3, "problem": f"p{i}", "answer": i} for i in range(9)]
    counts, _, _, _ = collect(FilesSource(paths=[write_lines(tmp_path / "one.jsonl", one)]), tmp_path / "one")
    assert counts.rejected == {"conflicting_problem_id": 6}
    assert "6 rows rejected as conflicting_problem_id" in counts.warnings[0]
    assert counts.warnings[0].endswith("set problems.source.columns.problem_id: null")


def test_a_problem_that_comes_again_has_one_answer_and_one_side(tmp_path: Path):
    answers = ["0.5", r"\frac12", 0.5, "0.7", None]
    rows = [{"problem_id": 1, "problem": "p", "answer": a, "c": f"c{i}", "ok": True} for i, a in enumerate(answers)]
    source = FilesSource(
        paths=[write_lines(tmp_path / "x.jsonl", [*rows, {"problem": "q", "answer": "1"}])],
        columns=Columns(completion="c", label="ok"),
    )
    counts, problems, traces, rejects = collect(source, tmp_path / "out")
    assert "column `c` is missing or null; the row has problem, answer" in "".join(counts.warnings)
    assert [row["answer"] for row in problems] == ["0.5", "1"]
    assert [trace["completion"] for trace in traces] == ["c0", "c1", "c2", "c4"]
    assert [(row["where"], row["reason"]) for row in rejects] == [
        ("x.jsonl:4", "conflicting_answer"), ("x.jsonl:6 (" + problems[1]["problem_id"] + ")", "trace:no_completion")
    ]  # fmt: skip
    splits = (DevelopmentSplit(share=0.5, seed=seed) for seed in range(99))
    split = next(split for split in splits if is_held_out("p", split) and not is_held_out("q", split))
    counts, _, traces, _ = collect(source, tmp_path / "dev", dev=split)
    assert (traces, counts.traces["dropped"]) == ([], {HELD_OUT: 4}), "nor does a row without an answer leak"
