"""Curation knows traces that were cut off, that begin inside their thought, that end with a token's text, or do not think."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from curation_runs import PROMPT, Rows, plan, read_out, run_here, trace

from redi_ray.config.prompts import PromptSettings
from redi_ray.data.curate.beginnings import check_beginnings, check_thoughts, complaint
from redi_ray.data.sources.readers import DataError
from redi_ray.modeling.tokenizer import character_tokenizer, load_tokenizer
from redi_ray.schemas import TRACE
from redi_ray.store import parquet
from redi_ray.text.dialogue import as_problem
from redi_ray.text.prompts import to_messages
from redi_ray.text.tokens import prompt_ids


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tokenizer")
    character_tokenizer("0123456789abcdefghijklmnopqrstuvwxyz \n").save_pretrained(folder)
    return str(folder)


def curated(folder: Path, tokenizer: str, rows: Rows, **config: Any) -> tuple[Any, dict[str, Rows]]:
    return run_here(plan(folder, tokenizer, [rows], **config)), read_out(folder)


def test_what_was_cut_off_is_said_and_counted(tmp_path: Path, tokenizer: str):
    """Known from the finish reason; where there is none a trace counts as finished. A cut-off one has a token less."""
    rows = []
    for number, (good, bad) in enumerate([("stop", "length"), ("length", "loop"), (None, None), ("stop", "stop")]):
        rows += [
            trace(f"p{number}", 0, "correct", f"<think>{'x' * 9}", finish_reason=good),
            trace(f"p{number}", 1, "wrong", f"<think>{'x' * 10}", finish_reason=bad),
        ]
    counts, tables = curated(tmp_path, tokenizer, rows, max_response_tokens=10)
    assert {row["problem_id"]: row["finished"] for row in tables["examples"]} == {
        "p0": True, "p1": False, "p2": True, "p3": True,
    }  # fmt: skip
    pairs = {row["problem_id"]: (row["chosen_finished"], row["rejected_finished"]) for row in tables["pairs"]}
    assert pairs == {"p0": (True, False), "p1": (False, False)}  # ten characters and an end-of-turn token are too long
    assert counts.cut_off == {"examples": 1, "chosen": 1, "rejected": 2}
    counts, _ = curated(tmp_path / "strict", tokenizer, rows, chosen={"truncated": False})
    assert counts.dropped == {"no_usable_correct_trace": 1}


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("so 1</think>1", "<think>so 1</think>1"),
        ("\nso 1\n</think>1", "<think>so 1\n</think>1"),
        ("<think>so 1</think>1<|end|>", "<think>so 1</think>1"),
        ("<think>so 1</think>1<|im_end|>\n<|endoftext|>", "<think>so 1</think>1"),
        ("<think><think>so 1</think>1", "<think>so 1</think>1"),
        ("<think>\n1</think>1", "<think>\n1</think>1"),  # nothing to mend
    ],
)
def test_traces_are_mended_to_what_is_trained_on(tmp_path: Path, tokenizer: str, text: str, stored: str):
    rows = [trace("p", 0, "correct", text), trace("p", 1, "wrong", text)]
    counts, tables = curated(tmp_path, tokenizer, rows, chosen={"format": {"one_box": False}})
    assert (counts.positives, counts.pairs, counts.traces_dropped) == (1, 1, {})
    answer = {"role": "assistant", "content": stored}
    assert tables["examples"][0]["messages"][-1] == answer
    assert (tables["pairs"][0]["chosen"], tables["pairs"][0]["rejected"]) == ([answer], [answer])


def test_a_trace_without_the_prefix_is_shown(tmp_path: Path, tokenizer: str):
    rows = [trace("plain", 0, "correct", "Step by step"), trace("good", 0, "correct"), trace("good", 1, "wrong", "No!")]
    counts, tables = curated(tmp_path, tokenizer, rows)
    assert counts.dropped == {"chosen_without_prefix": 1}
    assert counts.pairs_dropped == {"rejected_without_prefix": 1}
    assert {row["detail"] for row in tables["dropped"]} == {"Step by step", "No!"}


def write_traces(folder: Path, texts: list[str], **told: str) -> list[str]:
    uris = []
    for number, text in enumerate(texts):
        row = {
            "problem_id": "p",
            "problem": "p",
            "trace_id": f"p#{number}",
            "sample_index": number,
            "completion": text,
            **told,
        }
        uris.append(f"{folder}/part-{number}.parquet")
        parquet.write_table(uris[-1], TRACE.empty_table().from_pylist([row], schema=TRACE))
    return uris


PLAIN = ["Natalia sold 24 clips.\n#### 72", "### Response:\n4", "The answer is 7."]


def test_traces_of_which_none_has_the_prefix_are_refused_with_the_setting_to_change(tmp_path: Path):
    shards = write_traces(tmp_path, PLAIN)
    with pytest.raises(DataError) as error:
        check_beginnings(shards, PromptSettings())
    assert "3 of 3 traces do not begin with the forced prefix '<think>\\n'" in str(error.value)
    assert "(one begins 'Natalia sold 24 clips.\\n#### 72')" in str(error.value)
    assert str(error.value).endswith("on the command line 'model.prompt.prefix=\"\"'")
    check_beginnings(shards, PromptSettings(prefix=""))
    check_beginnings([], PromptSettings())
    for one in ("<think>\n1</think>", "1</think>", " <think>1"):
        check_beginnings(write_traces(tmp_path / "some", [*PLAIN, one]), PromptSettings())
    sky = write_traces(tmp_path / "sky", ["<|begin_of_thought|>\n\n1<|end_of_thought|>"])
    check_beginnings(sky, PromptSettings(prefix="<|begin_of_thought|>\n"))
    with pytest.raises(DataError, match=r"one begins '<.begin_of_thought"):
        check_beginnings(sky, PromptSettings())


@pytest.mark.parametrize(
    ("written", "misfits", "fits", "told"),
    [
        (
            "<think>\n",
            PLAIN,
            "hm</think>4",
            "opens '<think>' before the answer, and none of 3 finished traces closes it",
        ),
        ("<think>", PLAIN, "<think>\nhm\n</think>\n\n4", "such as {enable_thinking: false}"),
        ("<think>\n\n</think>\n\n", ["<think>1</think>2", "1</think>2"], "The answer is 7.", "and all 2 traces think"),
    ],
)
def test_a_thought_that_the_template_writes_and_no_trace_goes_on_from(
    tmp_path: Path, written: str, misfits: list[str], fits: str, told: str
):
    """Without a prefix nothing else tells: a plain answer would be learnt as a thought that never ends."""
    tokenizer, prompt = character_tokenizer("0123456789 "), PromptSettings(prefix="")
    shards = write_traces(tmp_path / "misfits", misfits)
    check_thoughts(shards, tokenizer, prompt)  # its template writes no thought
    tokenizer.chat_template = tokenizer.chat_template.replace("<|assistant|>", f"<|assistant|>{written}")
    with pytest.raises(DataError, match=re.escape(told)):
        check_thoughts(shards, tokenizer, prompt)
    check_thoughts(write_traces(tmp_path / "some", [*misfits, fits]), tokenizer, prompt)
    cut_off = write_traces(tmp_path / "cut", ["so then"], finish_reason="length")
    check_thoughts(cut_off, tokenizer, prompt)


def test_the_message_says_how_many():
    told = complaint(45, 50, "chosen traces", PromptSettings(), None)
    assert told.startswith("45 of 50 chosen traces do not begin with the forced prefix '<think>\\n', and")


def test_what_went_before_the_question_is_in_the_prompt_and_not_learnt_from(tmp_path: Path, tokenizer: str):
    """Examples, pairs, and the limit of the prompt's tokens, which counts all of it."""
    asked = [{"role": role, "content": text} for role, text in zip(["user", "assistant", "user"], "abc", strict=True)]
    rows = [
        trace("p", at, verdict, f"<think>{at}", problem=as_problem(asked))
        for at, verdict in ((0, "correct"), (1, "wrong"))
    ]
    _, tables = curated(tmp_path, tokenizer, rows)
    (example,), (pair,) = tables["examples"], tables["pairs"]
    assert [turn["content"] for turn in example["messages"][:-1]] == [turn["content"] for turn in pair["prompt"]]
    assert [turn["role"] for turn in pair["prompt"]] == ["user", "assistant", "user"]
    assert [turn["content"] for turn in pair["prompt"][:2]] == ["a", "b"]
    alone = len(prompt_ids(to_messages("c", PROMPT), load_tokenizer(tokenizer, False), PROMPT))
    _, tables = curated(tmp_path / "short", tokenizer, rows, max_prompt_tokens=alone)
    assert tables["examples"] == []
