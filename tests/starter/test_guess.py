"""What columns are taken for: by names in several languages, by what stands in them, and never against the user's word."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starting_data import FIVE, gsm8k_rows, write_jsonl

from redi_ray.starter.fitting import fitting
from redi_ray.starter.head import Head, StartError, read_head
from redi_ray.starter.reading import Reading, read

Row = dict[str, Any]


def reading(rows: list[Row], folder: Path, **given: str) -> Reading:
    return read(read_head(str(write_jsonl(folder / "x.jsonl", rows))), given)


def roles(found: Reading) -> dict[str, str]:
    return {role: guess.column for role, guess in found.guesses.items()}


@pytest.mark.parametrize(
    ("name", "what", "expected", "recipes"),
    [
        ("pairs", "preference", {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}, ["preferences"]),
        ("chats", "sft", {"messages": "messages", "tools": "tools"}, ["sft"]),
        ("gsm8k", "solutions", {"problem": "question", "solution": "answer"}, ["sft", "sample"]),
        ("alpaca", "sft", {"prompt": "instruction", "completion": "output", "input": "input"}, ["sft"]),
        (
            "openr1",
            "openr1",
            {"problem": "problem", "answer": "answer", "trace": "generations", "label": "correctness",
             "problem_id": "uuid", "source": "source"},
            ["redi"],
        ),
    ],
)  # fmt: skip
def test_five_shapes_that_people_have(
    name: str, what: str, expected: dict[str, str], recipes: list[str], tmp_path: Path
) -> None:
    found = read(read_head(str(FIVE[name](tmp_path))), {})
    assert (found.what, roles(found)) == (what, expected)
    assert [one.name for one in fitting(found)] == recipes
    assert found.usable == len(found.head.rows)
    assert found.head.whole
    assert all(guess.why for guess in found.guesses.values())


REAL = {
    "gsm8k_openai_example_model_solutions": ("traces", {"problem": "question", "answer": "ground_truth"}),
    "sky_math500": ("traces", {"problem": "problem", "answer": "gold", "trace": "trace"}),
    "qwen2.5math_cot_100x8": ("traces", {"problem": "question", "trace": "response", "answer": "answer"}),
    "prmbench_steps": ("steps", {"steps_right": "steps_right", "steps_wrong": "steps_wrong"}),
    "mint_multiturn": ("unpaired", {"messages": "messages", "label": "success"}),
    "mtbench101_dialogues": ("sft", {"messages": "messages"}),
    "mint_difficulty": ("problems", {"problem": "problem", "answer": "gold"}),
    "mathcheck_process": ("solutions", {"problem": "problem", "solution": "solution"}),
}


@pytest.mark.parametrize("name", REAL)
def test_real_sets(name: str, test_data: Path) -> None:
    what, expected = REAL[name]
    found = read(read_head(str(next(test_data.rglob(f"{name}.jsonl.gz")))), {})
    assert found.what == what
    assert expected.items() <= roles(found).items()
    assert found.usable == len(found.head.rows)


def test_solutions_of_several_models_beside_each_other_are_traces_with_their_labels(test_data: Path) -> None:
    file = next(test_data.rglob("gsm8k_openai_example_model_solutions.jsonl.gz"))
    found = read(read_head(str(file)), {})
    assert found.source is not None
    models = [f"{size}_{how}" for size in ("6b", "175b") for how in ("finetuning", "verification")]
    assert found.source.completion == [f"{model}.solution" for model in models]
    assert found.source.label == [f"{model}.is_correct" for model in models]


LONG = "How many stones are there in the river if there are"


@pytest.mark.parametrize(
    ("rows", "what", "expected"),
    [
        ([{"\u95ee\u9898": "1+1\uff1f", "\u7b54\u6848": 2}], "problems", {"problem": "\u95ee\u9898", "answer": "\u7b54\u6848"}),
        ([{"Pregunta": "\u00bf1+1?", "Respuesta": "2"}], "problems", {"problem": "Pregunta", "answer": "Respuesta"}),
        ([{"Frage": "1+1?", "L\u00f6sung": "Es ist \\boxed{2}."}], "solutions", {"problem": "Frage", "solution": "L\u00f6sung"}),
        ([{"Question Text": "1+1?", "finalAnswer": 1.5}], "problems", {"problem": "Question Text", "answer": "finalAnswer"}),
        ([{"a": f"{LONG} {n} kinds?", "b": n} for n in range(9)], "problems", {"problem": "a", "answer": "b"}),
        ([{"talk": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}]}], "sft", {"messages": "talk"}),
        ([{"it": {"question": "1+1?", "answer": "2"}, "n": 3}], "problems", {"problem": "it.question", "answer": "it.answer"}),
        ([{"question": "1+1?", "winner": "2.", "loser": "3."}], "preference", {"prompt": "question", "chosen": "winner"}),
        ([{"prompt": "1+1?", "response": "2", "is_correct": True}], "unpaired", {"label": "is_correct"}),
        ([{"prompt": "1+1?", "completions": ["2", "3"], "rewards": [1, 0]}], "rollouts", {"reward": "rewards"}),
    ],
)  # fmt: skip
def test_other_names_and_languages(rows: list[Row], what: str, expected: dict[str, str], tmp_path: Path) -> None:
    found = reading(rows, tmp_path)
    assert found.what == what
    assert expected.items() <= roles(found).items()


def test_the_users_word_comes_first(tmp_path: Path) -> None:
    rows = [{"question": "old?", "prompt": "new?", "answer": "1", "other": "2"}]
    found = reading(rows, tmp_path, problem="prompt", answer="other")
    assert roles(found) == {"problem": "prompt", "answer": "other"}
    assert found.guesses["answer"].why == "as you say"
    for given, told in (
        ({"problem": "nowhere"}, "no row has it; there are question"),
        ({"probem": "question"}, "nothing that"),
    ):
        with pytest.raises(StartError, match=told):
            reading(rows, tmp_path, **given)


def test_the_input_of_an_instruction_is_no_answer(tmp_path: Path) -> None:
    """Alpaca's form, with inputs that look like answers."""
    rows: list[Row] = [
        {"instruction": "Add.", "input": f"{n} 2", "output": f"It is {n + 2}, I think."} for n in range(9)
    ]
    found = reading(rows, tmp_path)
    assert (found.what, roles(found)) == (
        "sft", {"prompt": "instruction", "completion": "output", "input": "input"},
    )  # fmt: skip


def test_numbers_that_say_something_about_a_row_are_no_answers(tmp_path: Path) -> None:
    rows = [
        {"text": "How many legs have so many spiders in the cellar?", "level": 3, "row_id": n, "year": 2020}
        for n in range(9)
    ]
    with pytest.raises(
        StartError,
        match=r"level \(number, such as '3'\).*text as problem; there are problems, but nothing that answers",
    ):
        reading(rows, tmp_path)


def test_mixed_rows_are_counted_with_their_reasons(tmp_path: Path) -> None:
    rows: list[Row] = [*gsm8k_rows()[:10], {"question": "", "answer": "#### 1"}, {"other": 1}]
    path = write_jsonl(tmp_path / "x.jsonl", rows)
    path.write_text(path.read_text() + "{broken\n")
    found = read(read_head(str(path)), {})
    assert (found.what, found.usable, found.left_out.total()) == ("solutions", 10, 2)
    assert len(found.head.unreadable) == 1
    assert found.columns["question"].filled == 11 / 12


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: path.write_text(""), "it has no rows"),
        (lambda path: path.write_text("{broken\n{worse\n"), "no row can be read: x.jsonl:1 not JSON"),
        (lambda path: path.write_text('{"a": 1, "b": {"c": "x"}}\n'), r"what this is: a \(number, such as '1'\).*b.c \(text"),
        (lambda path: path.write_text('{"prompt": "", "response": ""}\n'), "none of all 1 rows can be used.*Name the columns"),
    ],
)  # fmt: skip
def test_what_no_config_can_be_made_of_is_told(make: Callable[[Path], object], told: str, tmp_path: Path) -> None:
    make(tmp_path / "x.jsonl")
    with pytest.raises(StartError, match=told):
        read(read_head(str(tmp_path / "x.jsonl")), {})


def test_packed_files_folders_and_long_ones_are_looked_at_in_part(tmp_path: Path) -> None:
    import gzip

    folder = tmp_path / "set"
    folder.mkdir()
    for name in range(7):
        text = "".join(json.dumps(row) + "\n" for row in gsm8k_rows() * 4)
        (folder / f"{name}.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    head: Head = read_head(str(folder))
    assert (head.files, head.whole, len(head.rows)) == (7, False, 200)
    assert head.source.paths == [str(folder)]  # type: ignore[union-attr]
    assert read(head, {}).what == "solutions"


def test_a_huge_list_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redi_ray.starter.head.LARGEST_LIST", 100)
    (tmp_path / "x.json").write_text(json.dumps(gsm8k_rows()))
    with pytest.raises(StartError, match=r"a JSON list of .* GiB, which can only be read whole.*jq -c"):
        read_head(str(tmp_path / "x.json"))


def test_names_that_are_nothing(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"nowhere\.jsonl is not there: name a file or a folder"):
        read_head(str(tmp_path / "nowhere.jsonl"))
