"""Sets that people have, in the forms that they have them: read as what they are, or told what is wrong and how to say it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from problem_sources import write_lines

from redi_ray.config.data import FileSet
from redi_ray.config.imports import ImportColumns, ImportSettings
from redi_ray.config.prompts import PromptSettings
from redi_ray.data.sources.import_sets import ImportCounts, _import_rows
from redi_ray.store import parquet, storage

PLAIN = PromptSettings(prefix="")


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


SYSTEM = {"role": "system", "content": "Be brief."}


def read(
    tmp_path: Path, rows: list[Any], prompt: PromptSettings = PLAIN, **settings: Any
) -> tuple[ImportCounts, dict[str, list[dict]]]:
    """The counts, and the tables that are left."""
    path = write_lines(tmp_path / "set.jsonl", rows)
    out = tmp_path / "out"
    wanted = ImportSettings(source=FileSet(paths=[path]), **settings)
    counts = _import_rows(wanted, prompt, str(out), "steps.x")
    assert counts.rows["in"] == counts.rows["out"] + sum(counts.dropped.values()) + sum(counts.rejected.values())
    tables = {
        name: [row for table in parquet.read_tables(files) for row in table.to_pylist()]
        for name in ("pairs", "examples", "groups", "rejects")
        if (files := storage.list_files(str(out / name)))
    }
    return counts, tables


PREFERENCES = {
    "strings": {"prompt": "q", "chosen": "a", "rejected": "b"},
    "messages": {"prompt": [user("q")], "chosen": [said("a")], "rejected": [said("b")]},
    "implicit": {"chosen": [user("q"), said("a")], "rejected": [user("q"), said("b")]},
    "ultrafeedback": {
        "prompt": "q ", "prompt_id": "7", "chosen": [user("q"), said("a")], "rejected": [user("q"), said("b")],
        "messages": [user("q"), said("a")],
    },
    "of a run": {
        "pair_id": "x", "problem_id": "p7", "prompt": [user("q")], "chosen": [said("a")], "rejected": [said("b")],
        "chosen_finished": True, "rejected_finished": False,
    },
    "sharegpt": {
        "conversations": [{"from": "human", "value": "q"}],
        "chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"},
    },
    "anthropic": {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"},
    "anthropic prompt": {"prompt": "\n\nHuman: q\n\nAssistant:", "chosen": "a", "rejected": "b"},
    "printed": {
        "prompt": "q", "chosen": str([user("q"), said("a")]), "rejected": str([user("q"), said("b")]),
    },
}  # fmt: skip


@pytest.mark.parametrize("form", PREFERENCES)
def test_a_preference_is_one_pair_in_every_form(tmp_path: Path, form: str):
    columns = ImportColumns(prompt="conversations") if form == "sharegpt" else ImportColumns()
    counts, tables = read(tmp_path, [PREFERENCES[form]], columns=columns)
    assert counts.layout.shape == "preference"
    (row,) = tables["pairs"]
    assert (row["prompt"], row["chosen"], row["rejected"]) == ([user("q")], [said("a")], [said("b")])
    assert row["problem_id"] == {"ultrafeedback": "7", "of a run": "p7"}.get(form, row["problem_id"])
    ended = [row["chosen_finished"], row["rejected_finished"]]
    assert ended == ([True, False] if form == "of a run" else [None, None])
    assert set(tables) == {"pairs", "rejects"}, "without scores the pair says all"


def test_scores_and_several_turns_are_in_the_groups(tmp_path: Path):
    """Nothing is lost: a system turn, turns before the answers differ, a score, turns behind the first answer."""
    begun = [SYSTEM, user("q"), said("hm"), user("well?")]
    rows = [
        {"chosen": [*begun, said("a")], "rejected": [*begun, said("b")], "score_chosen": 4, "score_rejected": "1.5"},
        {
            "chosen": [user("p"), said("a")],
            "rejected": [user("p"), said("b")],
            "score_chosen": 3.0,
            "score_rejected": None,
        },
    ]
    counts, tables = read(tmp_path, rows)
    groups = {tuple(turn["content"] for turn in row["prompt"]): row["members"] for row in tables["groups"]}
    members = groups["Be brief.", "q", "hm", "well?"]
    assert [(m["side"], m["reward"], m["turns"]) for m in members] == [(1, 4.0, [said("a")]), (-1, 1.5, [said("b")])]
    assert [m["reward"] for m in groups["p",]] == [3.0, None]
    assert [row["pair_id"] for row in tables["pairs"]] == [row["group_id"] for row in tables["groups"]]
    longer = [{"chosen": [user("q"), said("a"), user("so?"), said("c")], "rejected": [user("q"), said("b")]}]
    (tmp_path / "more").mkdir()
    counts, tables = read(tmp_path / "more", longer)
    assert set(tables) == {"groups", "rejects"}, (
        "a pair's sides have one turn each, so no table of pairs pretends to hold it"
    )
    assert counts.several_turns == 1
    assert [turn["content"] for turn in tables["groups"][0]["members"][0]["turns"]] == ["a", "so?", "c"]


def test_a_column_says_what_comes_before_all(tmp_path: Path):
    """Orca's form; a chat that begins with a system turn keeps it, and another one is no guess."""
    rows = [
        {"system": "Be brief.", "question": "q", "chosen": "a", "rejected": "b"},
        {"system": "", "question": "p", "chosen": "a", "rejected": "b"},
        {"system": "Be brief.", "question": [SYSTEM, user("r")], "chosen": "a", "rejected": "b"},
        {"system": "Be long.", "question": [SYSTEM, user("s")], "chosen": "a", "rejected": "b"},
    ]
    counts, tables = read(tmp_path, rows)
    assert {row["prompt"][-1]["content"]: row["prompt"][:-1] for row in tables["pairs"]} == {
        "q": [SYSTEM], "p": [], "r": [SYSTEM],
    }  # fmt: skip
    assert counts.rejected == {"two_systems": 1}
    assert "system in `system`" in str(counts.layout)


def test_columns_that_are_not_read_are_told(tmp_path: Path):
    counts, _ = read(tmp_path, [{**PREFERENCES["strings"], "history": [["a", "b"]], "score": 3}])
    assert str(counts.layout).endswith("; not read: history, score")


SFT = {
    "messages": {"messages": [SYSTEM, user("q"), said("a")]},
    "strings": {"prompt": "q", "completion": "a"},
    "chats": {"prompt": [SYSTEM, user("q")], "completion": [said("a")]},
    "sharegpt": {
        "conversations": [
            {"from": "system", "value": "Be brief."}, {"from": "human", "value": "q"}, {"from": "gpt", "value": "a"},
        ]
    },
    "alpaca": {"instruction": "q", "input": "", "output": "a"},
    "text": {"messages": json.dumps([user("q"), said("a")])},
}  # fmt: skip


@pytest.mark.parametrize("form", SFT)
def test_an_answer_is_one_example_in_every_form(tmp_path: Path, form: str):
    counts, tables = read(tmp_path, [SFT[form]])
    assert counts.layout.shape == "sft"
    (row,) = tables["examples"]
    before = [SYSTEM] if form in ("messages", "chats", "sharegpt") else []
    assert row["messages"] == [*before, user("q"), said("a")]


def test_messages_that_end_with_a_question_are_the_prompt(tmp_path: Path):
    counts, tables = read(tmp_path, [{"messages": [SYSTEM, user("q")], "responses": ["a", "b"], "rewards": [1, 0]}])
    assert tables["groups"][0]["prompt"] == [SYSTEM, user("q")]
    assert (counts.answers, counts.positive) == (2, 1)


def test_alpacas_input_and_a_thought_that_stands_apart(tmp_path: Path):
    rows = [
        {"instruction": "Add.", "input": "1, 2", "output": "3", "reasoning": "1 and 2 are 3"},
        {"instruction": "Add.", "input": "2, 2", "output": "<think>\n4</think>\n4", "reasoning": None},
    ]
    _, tables = read(tmp_path, rows, PromptSettings())
    assert sorted(row["messages"][0]["content"] for row in tables["examples"]) == ["Add.\n\n1, 2", "Add.\n\n2, 2"]
    assert "<think>\n1 and 2 are 3\n</think>\n\n3" in [row["messages"][1]["content"] for row in tables["examples"]]


def test_labelled_answers_are_groups_of_one(tmp_path: Path):
    rows = [{"prompt": "q", "completion": f"a{n}", "label": label} for n, label in enumerate([True, "no", None, 3])]
    counts, tables = read(tmp_path, [*rows, rows[0]])
    assert counts.layout.shape == "unpaired"
    assert sorted((m["turns"][0]["content"], m["side"]) for row in tables["groups"] for m in row["members"]) == [
        ("a0", 1),
        ("a1", -1),
    ]
    assert (counts.dropped, counts.rejected) == ({"duplicate": 1}, {"no_label": 1, "bad_label": 1})


@pytest.mark.parametrize("listed", [True, False, "twice"])
def test_samples_with_rewards_are_groups_of_n(tmp_path: Path, listed: bool | str):
    """One row a problem, or two of some of its samples each, or one a sample, in any order; the side is told by the reward; equal
    samples are samples all the same."""
    rewards = {"q": [1.0, 0.0, 0.5, 1.0], "p": [0.0, 1.0]}
    if listed:
        rows = [
            {"prompt": q, "responses": [f"{q}{r}" for r in given], "rewards": given, "finish_reasons": ["stop"] * len(given)}
            for q, all_of_it in rewards.items()
            for given in ([all_of_it[:1], all_of_it[1:]] if listed == "twice" else [all_of_it])
        ]  # fmt: skip
    else:
        rows = [{"problem": q, "response": f"{q}{r}", "reward": r} for q, given in rewards.items() for r in given]
        rows = rows[::2] + rows[1::2]
    counts, tables = read(tmp_path, rows, positive_above=0.5)
    assert counts.layout.shape == "rollouts"
    found = {row["prompt"][0]["content"]: row["members"] for row in tables["groups"]}
    assert {q: sorted(m["reward"] for m in members) for q, members in found.items()} == {
        q: sorted(given) for q, given in rewards.items()
    }
    assert all(m["side"] == (1 if m["reward"] > 0.5 else -1) for members in found.values() for m in members)
    assert (counts.answers, counts.positive, counts.tables) == (6, 3, {"groups": 2})
    assert all(m["finished"] is (True if listed else None) for members in found.values() for m in members)


def test_equal_rollouts_with_other_rewards_or_ids_are_others(tmp_path: Path):
    """A row of a list that says what an earlier one has said is a duplicate only with its rewards; ids tell groups apart."""
    lists = [
        {"prompt": "q", "responses": ["a", "b"], "rewards": given} for given in ([0.9, 0.1], [0.8, 0.2], [0.9, 0.1])
    ]
    counts, tables = read(tmp_path, lists)
    assert [len(row["members"]) for row in tables["groups"]] == [4]
    assert counts.dropped == {"duplicate": 1}
    named = [
        {"id": name, "prompt": "q", "response": text, "reward": r} for name in "ab" for text, r in (("x", 1), ("y", 0))
    ]
    (again := tmp_path / "named").mkdir()
    _, tables = read(again, named)
    assert len({row["group_id"] for row in tables["groups"]}) == len(tables["groups"]) == 2


def test_ids_that_begin_again_name_problems_of_their_own(tmp_path: Path):
    for name, question in (("a", "q"), ("b", "p")):
        write_lines(
            tmp_path / f"{name}.jsonl", [{"id": 1, "prompt": question, "response": f"{n}", "reward": n} for n in (0, 1)]
        )
    settings = ImportSettings(source=FileSet(paths=[f"{tmp_path}/a.jsonl", f"{tmp_path}/b.jsonl"]))
    counts = _import_rows(settings, PLAIN, str(tmp_path / "out"), "steps.x")
    rows = [
        row for table in parquet.read_tables(storage.list_files(f"{tmp_path}/out/groups")) for row in table.to_pylist()
    ]
    assert [len(row["members"]) for row in rows] == [2, 2]
    ids = sorted(row["problem_id"] for row in rows)
    assert ids[0] == "1"
    assert ids[1].startswith("1~")
    assert "1 rows have an id that names another prompt" in counts.warnings[0]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": "a "}, "same_sides"),
        ({"prompt": "q", "chosen": "a", "rejected": ""}, "no_rejected"),
        ({"prompt": None, "chosen": "a", "rejected": "b"}, "no_prompt"),
        ({"prompt": "x", "chosen": [user("q"), said("a")], "rejected": [user("q"), said("b")]}, "two_prompts"),
        ({"prompt": "q", "chosen": [user("q"), said("a")], "rejected": [user("p"), said("b")]}, "no_shared_prompt"),
        ({"prompt": [user("q"), said("a")], "chosen": "c", "rejected": "b"}, "no_prompt"),
        ({"prompt": "q", "chosen": [said("a"), user("b")], "rejected": "b"}, "unanswered"),
        ({"prompt": "q", "chosen": [{"role": "narrator", "content": "a"}], "rejected": "b"}, "unknown_role"),
        ({"prompt": "q", "chosen": [{**said(""), "tool_calls": [1]}], "rejected": "b"}, "several_turns"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "score_chosen": "good"}, "bad_score_chosen"),
        ({"prompt": "q", "chosen": '[{"role": "assistant", "content": "\\ud83d"}]', "rejected": "b"}, "no_text"),
        (
            {"prompt": "q", "chosen": "[{'role': 'user', 'content': 'q'}\n {'role': 'assistant'}]", "rejected": "b"},
            "printed_chat",
        ),
        ({"prompt": "q", "chosen": [said("a"), SYSTEM, said("c")], "rejected": "b"}, "late_system"),
        ("{broken\n", "unreadable_row"),
        (PREFERENCES["strings"], "duplicate"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isidentifier() else "",
)
def test_a_row_that_does_not_fit_has_its_reason(tmp_path: Path, row: Any, reason: str):
    counts, tables = read(tmp_path, [PREFERENCES["strings"], row])
    assert {**counts.dropped, **counts.rejected} == {reason: 1}
    assert len(tables["pairs"]) == 1
    assert len(tables["rejects"]) == len(counts.rejected)


def test_order_and_ids_follow_from_seed_and_content(tmp_path: Path):
    """The same rows in another order train in the same order; another seed orders them otherwise."""
    rows = [{"prompt": f"q{n}", "completion": "a"} for n in range(20)]
    found = []
    for name, given, seed in (("a", rows, 1), ("b", rows[::-1], 1), ("c", rows, 2)):
        (tmp_path / name).mkdir()
        _, tables = read(tmp_path / name, given, seed=seed)
        examples = sorted(tables["examples"], key=lambda row: row["example_id"])
        found.append([row["messages"][0]["content"] for row in examples])
    assert found[0] == found[1] != found[2]
    assert found[0] != sorted(found[0])


def test_prompts_are_chats_or_the_problems_of_the_evaluation(tmp_path: Path):
    prompt = PromptSettings(template="Solve: {problem}", system="Think.", prefix="")
    rows = [{"prompt": "1+1", "completion": "2"}, {"prompt": [SYSTEM, user("2+2")], "completion": "4"}]
    _, tables = read(tmp_path, rows, prompt)
    assert sorted(len(row["messages"]) for row in tables["examples"]) == [2, 3], "nothing is added to a chat"
    counts, tables = read(tmp_path, rows, prompt, prompts="problems")
    assert counts.rejected == {"no_problem": 1}
    assert tables["examples"][0]["messages"] == [
        {"role": "system", "content": "Think."},
        user("Solve: 1+1"),
        said("2"),
    ]
