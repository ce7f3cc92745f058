"""Step-DPO's pairs: what stands before the wrong step, the steps that lead on from there, and a reason for what gives none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from curation_runs import Rows, trace

from redi_ray.config.prompts import PromptSettings
from redi_ray.config.token_steps import RectifySettings
from redi_ray.data.columns import ColumnError
from redi_ray.data.rectify import starts as starts_module
from redi_ray.data.rectify.pairs import PairCounts, Rectifying, Worker, first_step, plan, run_passes
from redi_ray.data.rectify.starts import START, Starting, make_starts, start_shard
from redi_ray.modeling.tokenizer import character_tokenizer
from redi_ray.schemas import SPAN_SCORE, VERIFIED_TRACE
from redi_ray.store import parquet, storage
from redi_ray.text.steps import split_steps

PLAIN = PromptSettings(prefix="")
THINKING = PromptSettings()
STEPS = "Step 1: a\nStep 2: b\nStep 3: c"
WORLD = "<think>\n3+4=7\n7*2=5\n5-1=4\n</think>\n\\boxed{4}"


def spans(text: str, *labels: str) -> list[dict[str, Any]]:
    found = split_steps(text)
    told = [*labels, *["unseen"] * (len(found) - len(labels))]
    return [
        {"turn": 0, "start": start, "end": end, "label": label, "value": None}
        for (start, end), label in zip(found, told, strict=True)
    ]


def begun(
    root: Path, rows: Rows, labelled: list[list[dict[str, Any]] | None], prompt: PromptSettings = PLAIN, **settings: Any
) -> tuple[Counter[str], Rows]:
    """The counts of one shard, and its starts."""
    character_tokenizer("0123456789abcdefghijklmnopqrstuvwxyzS*+-=:}\n ").save_pretrained(root / "tokenizer")
    parquet.write_table(f"{root}/in/part-0.parquet", pa.Table.from_pylist(rows, schema=VERIFIED_TRACE))
    values = [{"trace_id": row["trace_id"], "spans": one} for row, one in zip(rows, labelled, strict=True)]
    parquet.write_table(f"{root}/at/part-0.parquet", pa.Table.from_pylist(values, schema=SPAN_SCORE))
    how = Starting(
        f"{root}/in", f"{root}/at", f"{root}/starts", RectifySettings(**settings), f"{root}/tokenizer", prompt
    )
    counts = Counter(start_shard("part-0.parquet", how))
    files = storage.list_files(f"{root}/starts/problems")
    return counts, [row for table in parquet.read_tables(files) for row in table.to_pylist()]


def test_the_header_stands_before_the_step(tmp_path: Path):
    """SYSTEMS.md, section 1: split at k = 2 the prompt ends with "Step 2:", and the step is " b". A neutral step is the error."""
    rows = [trace("p", 0, "wrong", STEPS), trace("p", 1, "wrong", STEPS), trace("q#1", 0, "wrong", "Step 1: x")]
    at = [
        spans(STEPS, "right", "neutral", "wrong"),
        spans(STEPS, "right", "neutral", "wrong"),
        spans("Step 1: x", "wrong"),
    ]
    counts, found = begun(tmp_path, rows, at)
    assert [(row["problem_id"], row["begun"], row["step"]) for row in found] == [
        ("p#0", "Step 1: a\nStep 2:", " b"), ("p#1", "Step 1: a\nStep 2:", " b"), ("q#1#0", "Step 1:", " x")
    ]  # fmt: skip
    assert (counts["in"], counts["out"]) == (3, 3)
    _, strict = begun(tmp_path / "strict", rows[:1], at[:1], labels=["wrong"])
    assert [(row["begun"], row["step"]) for row in strict] == [("Step 1: a\nStep 2: b\nStep 3:", " c")]


def test_what_the_prompt_holds_is_no_step(tmp_path: Path):
    """The forced prefix belongs to what stands before, also where the first step is wrong, and where a trace lacks it."""
    inside = WORLD.removeprefix("<think>\n")
    rows = [trace("p", 0, "wrong", WORLD), trace("p", 1, "wrong", WORLD), trace("p", 2, "wrong", inside)]
    at = [spans(WORLD, "right", "wrong"), spans(WORLD, "wrong"), spans(inside, "right", "wrong")]
    _, found = begun(tmp_path, rows, at, THINKING)
    assert [(row["begun"], row["step"]) for row in found] == [
        ("<think>\n3+4=7\n", "7*2=5"), ("<think>\n", "3+4=7"), ("<think>\n3+4=7\n", "7*2=5")
    ]  # fmt: skip


def test_a_sample_without_a_start_has_a_reason(tmp_path: Path):
    turns = [
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "c"},
    ]
    outside = [{"turn": 0, "start": 0, "end": 99, "label": "wrong", "value": None}]
    rows = [
        trace("p", 0, "correct", STEPS), trace("p", 1, "timeout", STEPS), trace("p", 2, "wrong", STEPS),
        trace("p", 3, "wrong", STEPS), trace("p", 4, "wrong", "c", turns=turns), trace("p", 5, "wrong", STEPS),
        trace("p", 6, "wrong", "Step 1: \n\nStep 2: b"),
    ]  # fmt: skip
    empty = [{"turn": 0, "start": 0, "end": 10, "label": "wrong", "value": None}]
    at = [
        spans(STEPS, "wrong"),
        spans(STEPS, "wrong"),
        None,
        spans(STEPS, "right", "right", "right"),
        [],
        outside,
        empty,
    ]
    counts, found = begun(tmp_path, rows, at)
    assert found == []
    assert counts == {
        "in": 7, "verdict_correct": 1, "verdict_timeout": 1, "not_located": 1, "no_wrong_step": 1, "several_turns": 1,
        "step_outside_its_text": 1, "empty_step": 1,
    }  # fmt: skip
    (dropped,) = parquet.read_tables([f"{tmp_path}/starts/dropped/part-0.parquet"], ["trace_id", "reason"])
    assert [(row["trace_id"], row["reason"]) for row in dropped.to_pylist()] == [
        ("p#2", "not_located"), ("p#3", "no_wrong_step"), ("p#4", "several_turns"), ("p#5", "step_outside_its_text"),
        ("p#6", "empty_step"),
    ]  # fmt: skip


def test_a_column_at_another_grain_is_refused(tmp_path: Path):
    begun(tmp_path, [trace("p", 0, "wrong", STEPS)], [spans(STEPS, "wrong")])
    how = Starting(
        f"{tmp_path}/in", f"{tmp_path}/in", f"{tmp_path}/o", RectifySettings(), f"{tmp_path}/tokenizer", PLAIN
    )
    with pytest.raises(ColumnError, match="one at grain span is needed"):
        make_starts(["part-0.parquet"], how)


def start(name: str, before: str = "Step 1: a\nStep 2:", step: str = " b") -> dict[str, Any]:
    return {"problem_id": name, "problem": "?", "answer": "1", "source": "t", "begun": before, "step": step}


def on(
    name: str, index: int, text: str, verdict: str = "correct", before: str = "Step 1: a\nStep 2:"
) -> dict[str, Any]:
    return trace(name, index, verdict, before + text)


def paired(root: Path, begins: Rows, continuations: list[Rows], **settings: Any) -> tuple[PairCounts, Rows]:
    """All passes in this process, a task for every shard, two partitions; the counts, and the groups."""
    parquet.write_table(f"{root}/starts/part-0.parquet", pa.Table.from_pylist(begins, schema=START))
    shards = [f"{root}/right/part-{number}.parquet" for number in range(len(continuations))]
    for uri, rows in zip(shards, continuations, strict=True):
        parquet.write_table(uri, pa.Table.from_pylist(rows, schema=VERIFIED_TRACE))
    rectifying = Rectifying(
        **plan(shards, [f"{root}/starts/part-0.parquet"]), out_uri=f"{root}/out", tokenizer="", prompt=PLAIN,
        settings=RectifySettings(**settings), seed=42,
    )  # fmt: skip
    worker = Worker(replace(rectifying, borders=tuple(range(len(shards) + 1)), partitions=2))

    def run(name: str, tasks: list[int]) -> Iterator[Counter[str]]:
        for task in tasks:
            yield worker.work(name, task)

    counts = run_passes(worker.rectifying, run)
    assert run_passes(worker.rectifying, run) == counts, "what is done is counted again, not done again"
    files = storage.list_files(f"{root}/out/groups", ".parquet")
    return counts, [row for table in parquet.read_tables(files) for row in table.to_pylist()]


def steps_of(group: dict[str, Any]) -> list[str]:
    """What is scored of each member."""
    found = []
    for member in group["members"]:
        (span,) = member["spans"]
        assert (span["value"], member["finished"], member["reward"]) == (1.0, False, None)
        text = member["turns"][0]["content"]
        assert (span["end"], text[: span["start"]]) == (len(text), "Step 1: a\nStep 2:")
        found.append(text[span["start"] :])
    return found


def test_the_first_step_of_a_right_continuation_against_the_wrong_one(tmp_path: Path):
    """Equal steps once, exactly `max_pairs` of a problem, its wrong samples in turn; whatever the shards."""
    begins = [start("p#1"), start("p#10"), start("q#0"), start("r#0"), start("s#0")]
    right = [
        on("p#1", 0, " c\nStep 3: done"), on("p#1", 1, " c \n\nStep 3: else"), on("p#1", 2, " d"), on("p#1", 3, " e"),
        on("p#10", 1, " f", "wrong"), on("p#10", 2, " f\nStep 3: x"), on("q#0", 0, " b\nStep 3: y"), on("q#0", 1, "  \n"),
        on("r#0", 0, " g", "no_answer"), on("p#10", 3, " c\nStep 3: z"),
    ]  # fmt: skip
    counts, groups = paired(tmp_path / "a", begins, [right], max_pairs=3)
    found = {group["group_id"].partition("/")[2]: steps_of(group) for group in groups}
    assert found == {"p#1#0": [" c", " b"], "p#10#2": [" f", " b"], "p#1#2": [" d", " b"]}
    assert all([member["side"] for member in group["members"]] == [1, -1] for group in groups)
    assert {group["problem_id"] for group in groups} == {"p"}
    assert (counts.continuations, counts.right, counts.pairs, counts.problems) == (10, 8, 3, 1)
    assert counts.dropped == {"empty_step": 1, "equal_to_rejected": 1, "over_max_pairs": 1, "same_step_again": 2}
    assert (counts.starts, counts.paired) == (5, 2)
    assert counts.starts_dropped == {"no_new_step": 1, "no_right_continuation": 2}
    assert paired(tmp_path / "b", begins, [right[::2], right[1::2]], max_pairs=3)[1] == groups
    assert len(paired(tmp_path / "c", begins, [right], max_pairs=1)[1]) == 1
    assert len(paired(tmp_path / "d", begins, [right], max_pairs=9)[1]) == 4


def test_a_step_ends_where_the_next_one_begins():
    before = "<think>\n3+4=7\n"
    assert first_step(before + "7*2=4\n4-1=3\n</think>\n\\boxed{3}", before) == "7*2=4"
    assert first_step(before, before) == ""
    assert first_step("Step 1: a\nStep 2: b\nand so on.\nStep 3: c", "Step 1: a\nStep 2:") == " b\nand so on."


def test_a_shard_that_is_done_is_only_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rows = [trace("p", 0, "wrong", STEPS)]
    counts, found = begun(tmp_path, rows, [spans(STEPS, "wrong")])
    monkeypatch.setattr(starts_module, "load_tokenizer", None)
    how = Starting(f"{tmp_path}/in", f"{tmp_path}/at", f"{tmp_path}/starts", RectifySettings(), "", PLAIN)
    assert start_shard("part-0.parquet", how) == counts
    assert len(found) == 1
