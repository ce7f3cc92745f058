"""Solutions in steps become Step-DPO's pairs, and conversations with tools keep their turns: by hand, and on the real sets."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from problem_sources import write_lines
from tiny_families import CHATML
from transformers import Qwen2Tokenizer

from redi_ray.config.data import Columns, FileSet
from redi_ray.config.imports import ImportSettings
from redi_ray.config.prompts import PromptSettings
from redi_ray.data.sources.import_sets import ImportCounts, _import_rows
from redi_ray.data.sources.rows import Parsed, parse_columns
from redi_ray.modeling.tokenizer import train_bpe_tokenizer
from redi_ray.schemas import GROUP
from redi_ray.stages.encoding import Weighting
from redi_ray.stages.joining import join_parts
from redi_ray.stages.parts import plan_parts
from redi_ray.stages.tokenising import Tokenising, tokenise_part
from redi_ray.store import parquet, storage
from redi_ray.train.sequences import SequenceStore

PLAIN = PromptSettings(prefix="")
CODE, OUTPUT = "```python\nprint(1 + 1)\n```", "```output\n2\n```"


def read(path: Path, out: Path, **settings: Any) -> tuple[ImportCounts, list[dict[str, Any]]]:
    wanted = ImportSettings(source=FileSet(paths=[str(path)]), **settings)
    counts = _import_rows(wanted, PLAIN, str(out), "steps.x")
    assert counts.rows["in"] == counts.rows["out"] + sum(counts.dropped.values()) + sum(counts.rejected.values())
    files = storage.list_files(str(out / "groups"))
    return counts, [row for table in parquet.read_tables(files) for row in table.to_pylist()]


def lines_of(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt") as file:
        return [json.loads(line) for line in file]


def tokenizer() -> Qwen2Tokenizer:
    found = train_bpe_tokenizer(["".join(map(chr, range(32, 127)))] * 2, 400)
    found.chat_template = CHATML
    found.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    return found


def store_of(groups: list[dict[str, Any]], folder: Path, kind: Any, made: Any) -> SequenceStore:
    """The rows as a training on pairs, or on groups, reads them."""
    made.save_pretrained(folder / "tokenizer")
    parquet.write_table(f"{folder}/in/part-0.parquet", pa.Table.from_pylist(groups, schema=GROUP))
    how = Tokenising("groups", kind, f"{folder}/out", f"{folder}/tokenizer", PLAIN, Weighting(False, False))
    parts = plan_parts([f"{folder}/in/part-0.parquet"])
    for part in parts:
        tokenise_part(part, how)
    join_parts(parts, how)
    return SequenceStore.load(folder / "out" / "arrays")


def scored_texts(store: SequenceStore, made: Any) -> list[str]:
    spans = [store.span(n) for n in range(len(store))]
    return made.batch_decode([store.tokens[s][np.asarray(store.weights[s]) != 0] for s in spans])


def row(right: Any, wrong: Any, **more: Any) -> dict[str, Any]:
    return {"problem": f"{right} {wrong}?", "steps_right": right, "steps_wrong": wrong, **more}


def member(found: dict[str, Any]) -> tuple[str, int]:
    """Its text and where the step begins, which goes to the end."""
    (turn,), (span,) = found["turns"], found["spans"]
    assert (span["end"], span["value"], found["finished"]) == (len(turn["content"]), 1.0, False)
    return turn["content"], span["start"]


def test_the_header_of_the_step_belongs_to_what_comes_before(tmp_path: Path):
    path = Path(write_lines(tmp_path / "set.jsonl", [row(["a", "b", "c"], ["a", "d"], first_error=1)]))
    _, (group,) = read(path, tmp_path / "headed", step_header="Step {k}:")
    assert [member(one) for one in group["members"]] == [("Step 1: a\nStep 2: b", 17), ("Step 1: a\nStep 2: d", 17)]
    assert [one["side"] for one in group["members"]] == [1, -1]
    _, (group,) = read(path, tmp_path / "plain", step_separator="\n\n")
    assert [member(one) for one in group["members"]] == [("a\n\nb", 3), ("a\n\nd", 3)]


def test_a_preference_between_two_ways_to_go_on(tmp_path: Path):
    """As Step-DPO's data are published: the steps before stand in a column of their own, which is told by its name."""
    begun = "Let's think.\nStep 1: a\nStep 2:"
    sides = {"prompt": "q", "chosen": " b", "rejected": " d"}
    rows = [
        {**sides, "initial_reason_steps": begun},
        {**sides, "initial_reason_steps": ""},
        {**sides, "initial_reason_steps": 3},
    ]
    counts, groups = read(Path(write_lines(tmp_path / "set.jsonl", rows)), tmp_path / "out")
    found = [[member(one) for one in group["members"]] for group in groups]
    assert found == [[(f"{begun} b", len(begun)), (f"{begun} d", len(begun))], [(" b", 0), (" d", 0)]]
    assert counts.rejected == {"bad_begun": 1}


def test_solutions_that_do_not_part_where_the_data_say_are_left_out_with_the_reason(tmp_path: Path):
    rows = [
        row(["a", "b"], ["a", "c"], first_error=1),
        row(["a", "b"], ["a", "c"], first_error=0, problem="p1"),
        row(["a", "b"], ["a", "c"], first_error=None, problem="p2"),
        row(["a", "b"], ["a", "b", "c"], first_error=2, problem="p3"),
        row(["a", " "], ["a", "c"], first_error=1, problem="p4"),
        row("ab", ["a", "c"], first_error=1, problem="p5"),
    ]
    counts, groups = read(Path(write_lines(tmp_path / "set.jsonl", rows)), tmp_path / "out")
    assert (counts.layout.shape, len(groups)) == ("steps", 1)
    assert counts.dropped == {"no_wrong_step": 1}
    assert counts.rejected == {"first_error_differs": 1, "same_steps": 1, "no_steps": 2}
    untold = [{name: value for name, value in one.items() if name != "first_error"} for one in rows[:1]]
    assert len(read(Path(write_lines(tmp_path / "untold.jsonl", untold)), tmp_path / "again")[1]) == 1


def test_prmbench_gives_a_pair_of_every_row(test_data: Path, tmp_path: Path):
    """Prefix, right and wrong step as the file has them; the step alone is scored, and nothing closes it."""
    path = test_data / "steps_turns_rewards" / "prmbench_steps.jsonl.gz"
    dropping, _ = read(path, tmp_path / "dropping")
    assert (dropping.rows["out"], dropping.dropped) == (1012, {"duplicate": 2}), (
        "two of a row's kinds of error are one pair"
    )
    counts, groups = read(path, tmp_path / "set", keep_duplicates=True)
    assert counts.layout.shape == "steps"
    assert (counts.rows, len(groups)) == ({"in": 1014, "out": 1014}, 1014)
    made = tokenizer()
    store = store_of(groups, tmp_path, "pairs", made)
    texts, prompts = scored_texts(store, made), np.asarray(store.prompt_lengths)
    told, steps = Counter[Any](), {group["group_id"]: group for group in groups}
    for number, name in enumerate(sorted(steps)):
        group, (right, wrong) = steps[name], store.sequences_of_group(number)
        begun = {one["turns"][0]["content"][: one["spans"][0]["start"]] for one in group["members"]}
        assert len(begun) == 1
        behind = [made.decode(store.tokens[store.span(n)][prompts[n] :]) for n in (right, wrong)]
        assert behind == [begun_text + texts[n] for n, begun_text in zip((right, wrong), [*begun] * 2, strict=True)]
        problem = group["problem_id"].partition("~")[0]  # of one whose text differs a little from row to row
        told[problem, group["prompt"][0]["content"], *begun, texts[right], texts[wrong]] += 1
    rows = lines_of(path)
    expected = Counter(
        (one["problem_id"], one["problem"], "".join(f"{step}\n" for step in one["steps_right"][:k]),
         one["steps_right"][k], one["steps_wrong"][k])
        for one in rows for k in [one["first_error"]]
    )  # fmt: skip
    assert told == expected
    assert sum(begun == "" for _, _, begun, _, _ in told.elements()) == 17
    assert len({problem for problem, *_ in told}) == 229


@pytest.mark.slow
def test_mint_is_trained_on_turn_by_turn(test_data: Path, tmp_path: Path):
    """All 1,480 attempts, those too that end with a tool's error; what every token that is scored says, put together, is what the
    assistant said, each turn closed, and not a token more."""
    path = test_data / "steps_turns_rewards" / "mint_multiturn.jsonl.gz"
    columns = {"messages": "messages", "reward": "success", "id": "problem_id"}
    counts, groups = read(path, tmp_path / "set", columns=columns)
    made = tokenizer()
    store = store_of(groups, tmp_path, "groups", made)
    assert counts.layout.shape == "rollouts"
    assert (counts.rows, counts.answers, counts.positive) == ({"in": 1480, "out": 1480}, 1480, 492)
    sides = [Counter(one["side"] for one in group["members"]) for group in groups]
    assert sum(side[1] > 0 and side[-1] > 0 for side in sides) == 114
    assert sum(side[1] * side[-1] for side in sides) == 2096
    rows = lines_of(path)
    said = Counter(
        "".join(f"{turn['content']}<|im_end|>" for turn in one["messages"] if turn["role"] == "assistant")
        for one in rows
    )
    assert Counter(scored_texts(store, made)) == said
    assert sum(turn["role"] == "tool" for group in groups for one in group["members"] for turn in one["turns"]) == 3571


def test_mint_as_traces_of_problems(test_data: Path):
    """The other way in: problems with their traces, which are verified, or carry their label."""
    columns = Columns(answer="gold", completion="messages", label="success", model="model")
    found = [
        parse_columns(one, columns) for one in lines_of(test_data / "steps_turns_rewards" / "mint_multiturn.jsonl.gz")
    ]
    traces = [trace for one in found if isinstance(one, Parsed) for trace in one.traces]
    assert len(traces) == 1480
    assert Counter(str((trace.votes or {})["label"]) for trace in traces) == {"correct": 492, "wrong": 988}
    assert sum(trace.turns is not None and trace.turns[-1]["role"] == "tool" for trace in traces) == 15


@pytest.mark.parametrize("chat", [False, True])
def test_code_and_output_in_one_text_are_turns(tmp_path: Path, chat: bool):
    """For traces of problems, and for imported sets, where a tool may speak as a user, too."""
    text = f"Add.\n{CODE}\n{OUTPUT}\nSo 2."
    turns = [("assistant", f"Add.\n{CODE}"), ("tool", OUTPUT), ("assistant", "So 2.")]
    messages = [{"role": "user" if role == "tool" else role, "content": said} for role, said in turns]
    value = [{"role": "user", "content": "1+1?"}, *messages] if chat else text
    found = parse_columns({"problem": "1+1?", "answer": 2, "c": value}, Columns(completion="c", tool_blocks=True))
    assert isinstance(found, Parsed)
    assert [(turn["role"], turn["content"]) for turn in found.traces[0].turns or ()] == turns
    assert found.traces[0].completion == "So 2."
    data = {"messages": value, "label": True} if chat else {"prompt": "1+1?", "completion": value, "label": True}
    path = Path(write_lines(tmp_path / "set.jsonl", [data]))
    _, (group,) = read(path, tmp_path / "out", tool_blocks=True)
    assert [(turn["role"], turn["content"]) for turn in group["members"][0]["turns"]] == turns
