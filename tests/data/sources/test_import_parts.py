"""Sets split by topic, with no topic on both sides, and samples with rewards as questions to a judge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_import_rows import PLAIN, read, said, user

from redi_ray.config.data import FileSet
from redi_ray.config.imports import ImportSettings
from redi_ray.config.load import ConfigError, parse_config
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.worlds import OrderSet
from redi_ray.data.sources.folders import DataError
from redi_ray.data.sources.import_parts import SplitError
from redi_ray.data.sources.import_sets import _import_rows
from redi_ray.data.sources.order_world import BRIEF, TOPICS, order_rows
from redi_ray.pipeline.standard import graph_of
from redi_ray.store import parquet, storage
from redi_ray.text.prompts import problem_of, to_messages

UNSEEN = ["AR", "IC", "SI"]


def test_real_dialogues_split_by_topic(tmp_path: Path, real_set: Any) -> None:
    """936 of 1,388 dialogues are left without three of thirteen topics; with held-out ones of the others the three sides are
    apart and leave nothing out."""
    rows = real_set("mtbench101_dialogues")
    split = {"by": "topic", "held_out": UNSEEN}
    counts, tables = read(tmp_path, rows, shape="sft", split=split)
    assert counts.rows == {"in": 1388, "out": 936}
    assert counts.dropped == {"unseen_side": 452}
    assert len(tables["groups"]) == 936
    sides = {}
    for side in ("train", "seen", "unseen"):
        (tmp_path / side).mkdir()
        more = split | {"seen_share": 0.1, "take": side}
        counts, tables = read(tmp_path / side, rows, shape="sft", split=more)
        sides[side] = {_text(row["prompt"] + row["members"][0]["turns"]) for row in tables["groups"]}
        assert len(tables["groups"]) == counts.rows["out"]
    assert sum(map(len, sides.values())) == len(set.union(*sides.values()))
    assert 60 < len(sides["seen"]) < 130
    topics = {_text(row["messages"]): row["topic"] for row in rows}
    found = {side: {topics[text] for text in texts} for side, texts in sides.items()}
    assert found["unseen"] == set(UNSEEN)
    assert found["train"] == found["seen"]
    assert not found["train"] & set(UNSEEN)


def _text(turns: list[dict[str, str]]) -> str:
    return "\n".join(turn["content"] for turn in turns)


def dialogue(topic: str | None, *texts: str) -> dict[str, Any]:
    turns = [user(text) if at % 2 == 0 else said(text) for at, text in enumerate(texts)]
    return {"topic": topic, "messages": turns}


def test_a_system_turn_that_all_share_decides_no_side(tmp_path: Path) -> None:
    """A share of the dialogues of topics that are learnt is held out, whatever stands before them all."""
    rows = [
        {
            "topic": f"t{number % 4}",
            "messages": [{"role": "system", "content": "Be brief."}, user(f"q{number}"), said("a")],
        }
        for number in range(400)
    ]
    sizes = {}
    for side in ("train", "seen", "unseen"):
        (tmp_path / side).mkdir()
        split = {"by": "topic", "held_out": ["t0"], "seen_share": 0.2, "take": side}
        counts, _ = read(tmp_path / side, rows, shape="sft", split=split)
        sizes[side] = counts.rows["out"]
    assert sizes["unseen"] == 100
    assert sum(sizes.values()) == 400
    assert 30 < sizes["seen"] < 90


def test_what_cannot_be_split_is_refused(tmp_path: Path) -> None:
    split = {"by": "topic", "held_out": ["b"]}
    rows = [dialogue("a", "q", "x"), dialogue("b", "p", "y"), dialogue(None, "r", "z")]
    counts, _ = read(tmp_path, rows, split=split)
    assert (counts.rows["out"], counts.dropped, counts.rejected) == (1, {"unseen_side": 1}, {"no_topic": 1})
    with pytest.raises(SplitError, match=r"topic b says what one of topic a says, .* \(unseen and train\)"):
        read(tmp_path, [*rows, dialogue("b", "q", "x")], split=split)
    with pytest.raises(DataError, match=r"unseen_side \(1\): `split.take: seen` leaves them out"):
        read(tmp_path, rows[:2], split=split | {"take": "seen", "seen_share": 1e-9})
    with pytest.raises(SplitError, match="no row has the topic c; there are a, b"):
        read(tmp_path, rows, split={"by": "topic", "held_out": ["b", "c"]})


def test_steps_that_split_one_set_otherwise_are_refused(tmp_path: Path) -> None:
    """Before anything starts: what one holds out the other would learn from."""
    source = {"kind": "files", "paths": [str(tmp_path / "x.jsonl")]}
    mine = {"do": "import", "source": source, "split": {"by": "topic", "held_out": ["a"]}}
    raw: dict[str, Any] = {"name": "x", "model": {"init": {"kind": "scratch"}}, "steps": {"mine": mine}}
    parse_config(raw | {"steps": {"mine": mine, "held": mine | {"split": mine["split"] | {"take": "unseen"}}}})
    for other in ({"by": "topic", "held_out": ["b"]}, {"by": "topic", "held_out": ["a"], "seen_share": 0.1}, None):
        with pytest.raises(ConfigError, match=r"steps.held and steps.mine import one set and split it otherwise"):
            parse_config(raw | {"steps": {"mine": mine, "held": mine | {"split": other}}})


def test_an_evaluation_asks_questions_to_judges_alone(tmp_path: Path) -> None:
    source = {"kind": "files", "paths": [str(tmp_path / "x.jsonl")]}
    mine = {"do": "import", "source": source}
    raw: dict[str, Any] = {"name": "x", "model": {"init": {"kind": "scratch"}}, "steps": {"mine": mine}}
    for asked in ("mine", "nobody"):
        with pytest.raises(
            ConfigError, match=f"evaluate.judge_on.q: {asked} is no step `import` with `judge`; there are none"
        ):
            parse_config(raw | {"evaluate": {"judge_on": {"q": asked}}})
    config = parse_config(raw | {"steps": {"mine": mine | {"judge": {}}}, "evaluate": {"judge_on": {"q": "mine"}}})
    assert graph_of(config)["eval/base"].inputs == {"model": "base", "questions q": "mine"}


def test_rewards_become_what_a_judge_says(tmp_path: Path) -> None:
    """A question for each sample, with what was said before; equal questions once; forms that cannot be asked are refused."""
    rows = [
        {"messages": [user("1 tea"), said("1 tea"), user("and 2"), said("3")], "score": 2.0},
        {"messages": [user("1 tea"), said("1 tea"), user("and 2"), said("4")], "score": 0.5},
        {"messages": [user("1 tea"), said("1 tea"), user("and 2"), said("3")], "score": 2},
        {"messages": [user("1 tea"), said("1 tea")], "score": None},
    ]
    prompt = PromptSettings(prefix="", template="Judge. {problem}\n")
    judge = {"question": "{dialogue}|{answer}?"}
    counts, tables = read(tmp_path, rows, prompt, columns={"reward": "score"}, judge=judge)
    asked = {row["messages"][0]["content"]: row["messages"][1:] for row in tables["examples"]}
    begun = "Judge. user: 1 tea\nassistant: 1 tea\nuser: and 2"
    assert asked == {f"{begun}|3?\n": [said("\\boxed{2}")], f"{begun}|4?\n": [said("\\boxed{0.5}")]}
    assert (counts.dropped, counts.rejected) == ({"duplicate": 1}, {"no_reward": 1})
    assert set(tables) == {"examples", "rejects"}
    assert not any("another score" in line for line in counts.warnings)
    (tmp_path / "torn").mkdir()
    torn = [rows[0], {**rows[0], "score": 1}]
    counts, _ = read(tmp_path / "torn", torn, prompt, columns={"reward": "score"}, judge=judge)
    assert counts.warnings == ["1 answers have another score than the same answer had before; a judge learns both"]
    problem = problem_of(tables["examples"][0]["messages"], prompt)
    assert to_messages(problem, prompt) == tables["examples"][0]["messages"][:1]
    with pytest.raises(ValueError, match="this is a set of answers"):
        read(tmp_path, rows, judge=judge)
    for wrong in ({"question": "how good?"}, {"verdict": "good"}):
        with pytest.raises(ValueError, match="must hold"):
            ImportSettings(source=FileSet(paths=["x"]), judge=wrong)
    with pytest.raises(ValueError, match="judge is for samples with rewards"):
        ImportSettings(source=FileSet(paths=["x"]), shape="sft", judge=judge)


def test_what_is_judged_may_speak_of_the_places_itself(tmp_path: Path) -> None:
    """A dialogue about templates is asked about as it stands; a reward that float32 cannot hold is rejected."""
    rows = [
        {"messages": [user("Print {answer}."), said("{dialogue} {answer}")], "score": 1},
        {"messages": [user("big"), said("bigger")], "score": 1e39},
    ]
    judge = {"question": "{dialogue}|{answer}"}
    counts, tables = read(tmp_path, rows, PLAIN, columns={"reward": "score"}, judge=judge)
    (row,) = tables["examples"]
    assert row["messages"][0]["content"] == "user: Print {answer}.|{dialogue} {answer}"
    assert sum(counts.rejected.values()) == 1
    assert "beyond what float32 holds" in str(tables["rejects"][0])


def test_the_world_of_orders(tmp_path: Path) -> None:
    """A score is how many of the last answer's numbers are right, and every topic has its own words."""
    rows = list(order_rows(OrderSet(rows="scored", size=400)))
    scores = set()
    for row in rows:
        first, _, second, last = (turn["content"] for turn in row["messages"])
        one, two = int(first.split()[0]), int(second.split()[1])
        told = [int(word) for word in last.replace(".", "").split() if word.isdigit()]
        assert row["score"] == sum(a == b for a, b in zip(told, (one, two, one + two), strict=True))
        scores.add(row["score"])
    assert scores == {0, 1, 2, 3}
    (seen,) = order_rows(OrderSet(rows="customers", size=1))
    assert [turn["role"] for turn in seen["messages"]] == ["user", "assistant", "user", "assistant"]
    brief, said, answered, _ = (turn["content"] for turn in seen["messages"])
    assert brief == BRIEF
    assert answered == f"{said.removesuffix(' please')}. anything else", "a dialogue from the customer's side"
    words = [word for things in TOPICS.values() for word in things.split()]
    assert len(words) == len(set(words))
    wanted = ImportSettings(
        source=OrderSet(rows="scored", size=400), columns={"reward": "score"}, judge={},
        split={"by": "topic", "held_out": ["smith"], "take": "unseen"},
    )  # fmt: skip
    counts = _import_rows(wanted, PLAIN, str(tmp_path / "out"), "steps.x")
    assert counts.rows["out"] + counts.dropped["duplicate"] == 40
    (table,) = parquet.read_tables(storage.list_files(str(tmp_path / "out" / "examples")))
    assert table.num_rows == counts.rows["out"] > 30
    assert any(thing in str(table["messages"][0]) for thing in TOPICS["smith"].split())
