"""Groups of a problem's samples: rewards, rates, caps and sides on real samples; nothing is lost without a reason."""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from curation_runs import Rows, trace
from grouped_runs import PLAIN, grouped, write

from redi_ray.config.group_steps import GroupSettings
from redi_ray.data.columns import ColumnError
from redi_ray.data.groups.choose import give_advantages
from redi_ray.data.groups.make import make_groups, plan
from redi_ray.data.groups.scan import Grouping
from redi_ray.data.sources.chats import read_completion
from redi_ray.schemas import GROUP, SPAN_SCORE, VERIFIED_TRACE
from redi_ray.store import parquet, storage


@pytest.fixture(scope="module")
def real(test_data: Path) -> list[Rows]:
    """100 problems with 8 samples each, in four shards that cut through the problems."""
    with gzip.open(test_data / "traces/qwen2.5math_cot_100x8.jsonl.gz", "rt") as file:
        rows = [
            trace(f"q{number}", index, "correct" if right else "wrong", text, problem=row["question"])
            for number, row in enumerate(map(json.loads, file))
            for index, (text, right) in enumerate(zip(row["code"], row["score"], strict=True))
        ]
    return [rows[start::4] for start in range(4)]


@pytest.mark.parametrize(
    ("settings", "groups", "left_out"),
    [
        ({"both_sides": True}, 10, {"one_side": 90}),
        ({"min_rate": 0.1, "max_rate": 0.7}, 7, {"too_easy": 89, "too_hard": 4}),  # S2R
        ({"max_rate": 0.79}, 13, {"too_easy": 87}),  # OREAL
        ({"min_rate": 1.0}, 86, {"too_hard": 14}),  # DPH-RL's rehearsal
        ({"max_rate": 0.99}, 14, {"too_easy": 86}),  # and what it explores
    ],
    ids=["both", "s2r", "oreal", "all right", "the rest"],
)
def test_what_papers_keep_of_real_samples(
    real: list[Rows], bpe_tokenizer: str, tmp_path: Path, settings: dict, groups: int, left_out: dict
) -> None:
    counts, rows = grouped(tmp_path, bpe_tokenizer, real, **settings)
    assert (counts.groups, counts.problems, counts.problems_dropped) == (groups, 100, left_out)
    assert (counts.traces, counts.members) == (800, 8 * groups)
    assert counts.pass_rates == {
        "0.0": 4, "0.1": 1, "0.2": 1, "0.3": 2, "0.5": 3, "0.7": 2, "0.8": 1, "1.0": 86
    }  # fmt: skip
    texts = {row["problem_id"]: [] for shard in real for row in shard}
    for row in sorted((row for shard in real for row in shard), key=lambda row: row["sample_index"]):
        texts[row["problem_id"]].append((row["completion"], 1.0 if row["verdict"] == "correct" else 0.0))
    for group in rows:
        members = group["members"]
        assert [(m["turns"][0]["content"].strip(), m["reward"]) for m in members] == [
            (text.strip(), reward) for text, reward in texts[group["problem_id"]]
        ]
        assert all(m["side"] == (1 if m["reward"] else -1) for m in members)


OREAL = [{"below": 0.2, "times": 6}, {"below": 0.6, "times": 4}, {"below": 0.8, "times": 2}]


def test_problems_are_repeated_by_their_pass_rate(real: list[Rows], bpe_tokenizer: str, tmp_path: Path) -> None:
    """OREAL's table gives 58 groups of 13 problems. Of one right and one wrong sample each, drawn anew for each group by the
    seed, the four that nobody solves give none; a sample that no draw has is dropped once."""
    counts, rows = grouped(tmp_path / "all", bpe_tokenizer, real, repeats=OREAL)
    assert (counts.groups, counts.repeated, counts.members) == (13, 45, 13 * 8)
    assert counts.problems_dropped == {"too_easy": 87}
    assert len({row["group_id"] for row in rows}) == 58
    pairs = {"repeats": OREAL, "both_sides": True, "per_side": 1}
    counts, rows = grouped(tmp_path / "pairs", bpe_tokenizer, real, **pairs)
    assert (counts.groups, counts.repeated) == (9, 58 - 4 * 6 - 9)
    assert counts.dropped.keys() == {"too_few", "over_per_side", "too_easy"}
    assert all([member["side"] for member in row["members"]].count(1) == 1 for row in rows)
    drawn = defaultdict(set)
    for row in rows:
        drawn[row["problem_id"]].add(tuple(member["turns"][0]["content"] for member in row["members"]))
    assert max(map(len, drawn.values())) > 1, "every draw is the same"
    assert grouped(tmp_path / "again", bpe_tokenizer, real, **pairs)[1] == rows
    assert grouped(tmp_path / "other", bpe_tokenizer, real, seed=7, **pairs)[1] != rows


def test_caps_are_drawn_by_the_seed(real: list[Rows], bpe_tokenizer: str, tmp_path: Path) -> None:
    """At most as many wrong samples as right ones, then at most four; another seed draws others, the same one the same."""
    settings = {"rewards": {"correct": 1, "wrong": -1}, "both_sides": True, "most_wrong": 1.0, "most": 4}
    counts, first = grouped(tmp_path / "a", bpe_tokenizer, real, **settings)
    assert counts.dropped.keys() <= {"one_side", "over_most", "over_most_wrong"}
    assert 0 < counts.groups <= 10
    for group in first:
        sides = Counter(member["side"] for member in group["members"])
        assert sides[1] >= max(1, sides[-1])
        assert 2 <= sides.total() <= 4
    assert grouped(tmp_path / "b", bpe_tokenizer, [[row for shard in real for row in shard]], **settings)[1] == first, (
        "whatever the shards"
    )
    assert grouped(tmp_path / "c", bpe_tokenizer, real, seed=7, **settings)[1] != first


def test_advantages_are_of_all_samples_that_have_a_reward(tmp_path: Path, bpe_tokenizer: str) -> None:
    """Also of those whose answer is no frequent one; and rewards that differ by rounding alone have none."""
    rows = [trace("p", at, "correct" if at < 3 else "wrong", f"t{at}") | {"extracted_answer": "7" if at < 3 else str(at)}
            for at in range(5)]  # fmt: skip
    settings = {"rewards": {"correct": 1, "wrong": 0}, "advantages": "group_mean"}
    _, (group,) = grouped(tmp_path, bpe_tokenizer, [rows], frequent_answers=1.0, least=1, **settings)
    assert {round(member["reward"], 6) for member in group["members"]} <= {0.4, -0.6}
    members = [{"reward": 0.1 + 0.2}, {"reward": 0.3}]
    give_advantages(GroupSettings(advantages="group_scaled"), members)
    assert [member["advantage"] for member in members] == [0, 0]


def test_rewards_from_verdicts_and_columns(bpe_tokenizer: str, tmp_path: Path) -> None:
    """A verdict that has no reward, and a sample that has no number, are left out by name; threshold and sides follow the sum."""
    verdicts = ["correct", "wrong", "no_answer", "correct", "wrong"]
    rows = [trace("p", index, verdict, f"so {index}") for index, verdict in enumerate(verdicts)]
    length = [[0.5, 2.0, 1.0, None, 4.0]]
    both = {"scores": {"length": -0.5}, "rewards": {"correct": 2, "wrong": 0}, "threshold": -1.5}
    counts, ((group),) = grouped(tmp_path / "a", bpe_tokenizer, [rows], columns={"length": length}, **both)
    assert [(m["reward"], m["side"]) for m in group["members"]] == [(1.75, 1), (-1.0, 1), (-2.0, -1)]
    assert counts.dropped == {"no_length": 1, "verdict_no_answer": 1}
    alone = {"scores": {"length": 1.0}, "rewards": {}}
    counts, ((group),) = grouped(tmp_path / "b", bpe_tokenizer, [rows], columns={"length": length}, **alone)
    assert [m["reward"] for m in group["members"]] == [0.5, 2.0, 1.0, 4.0]


def test_pairs_of_traces_whose_turns_are_as_they_should_be(bpe_tokenizer: str, tmp_path: Path) -> None:
    """One right and one wrong trace by the seed; one whose last output is an error, that only answers, or that reached a limit,
    goes by name and makes no pair."""
    call, answer = {"role": "assistant", "content": "f()"}, {"role": "assistant", "content": "so 4"}
    good, bad = (
        [call, {"role": "tool", "content": "4"}, answer],
        [call, {"role": "tool", "content": "TypeError"}, answer],
    )
    kinds: list[dict[str, Any]] = [
        *[{"verdict": "correct", "turns": good}] * 3,
        *[{"verdict": "wrong", "turns": good}] * 2,
        {"verdict": "wrong", "turns": bad},
        {"verdict": "wrong", "turns": None},
        {"verdict": "wrong", "turns": good[:2]},
        {"verdict": "wrong", "turns": good, "finish_reason": "length"},
    ]
    rows = [trace("p", at, text="so 4", **{"finish_reason": "stop", **kind}) for at, kind in enumerate(kinds)]
    counts, ((group),) = grouped(tmp_path, bpe_tokenizer, [rows], both_sides=True, per_side=1, turns={})
    assert [(member["side"], member["turns"]) for member in group["members"]] == [(1, good), (-1, good)]
    gone = {"error_in_output": 1, "too_few_calls": 1, "ends_with_output": 1, "cut_off": 1, "over_per_side": 3}
    assert counts.dropped == gone


def test_real_conversations_with_tools(test_data: Path, bpe_tokenizer: str, tmp_path: Path) -> None:
    """mint_multiturn: every message is kept, 114 of 148 problems have both sides."""
    rows, seen = [], Counter[str]()
    with gzip.open(test_data / "steps_turns_rewards/mint_multiturn.jsonl.gz", "rt") as file:
        for row in map(json.loads, file):
            answer = read_completion(row["messages"])
            index = seen[row["problem_id"]]
            seen[row["problem_id"]] += 1
            verdict = "correct" if row["success"] else "wrong"
            made = trace(row["problem_id"], index, verdict, answer.text, problem=row["problem"], turns=answer.turns)
            rows.append(
                {**made, "finish_reason": "unfinished" if answer.broken_off else "stop", "messages": row["messages"]}
            )
    messages = defaultdict(list)
    for row in rows:
        messages[row["problem_id"]].append([*row.pop("messages")][1:])
    counts, groups = grouped(tmp_path, bpe_tokenizer, [rows[:700], rows[700:]], both_sides=True)
    assert (counts.problems, counts.groups, counts.traces) == (148, 114, 1480)
    assert sum(counts.sides.values()) == counts.members
    for group in groups:
        kept = [[turn["role"] for turn in member["turns"]] for member in group["members"]]
        assert kept == [[turn["role"] for turn in turns] for turns in messages[group["problem_id"]]]
    tools = [turn for g in groups for m in g["members"] for turn in m["turns"] if turn["role"] == "tool"]
    assert tools
    assert GROUP.equals(parquet.read_schema(storage.list_files(f"{tmp_path}/out/groups")[0]))


def test_a_column_of_another_grain_is_refused_before_any_worker(tmp_path: Path, bpe_tokenizer: str) -> None:
    (shard,) = write(tmp_path, "in", [[trace("p", 0, "correct")]], VERIFIED_TRACE)
    (spans,) = write(tmp_path, "s", [[{"trace_id": "p#0", "spans": []}]], SPAN_SCORE)
    grouping = Grouping(
        **plan([shard]), out_uri=f"{tmp_path}/out", tokenizer=bpe_tokenizer, prompt=PLAIN, max_prompt_tokens=9,
        max_response_tokens=9, settings=GroupSettings(scores={"s": 1}), scores=(("s", (spans,)),),
    )  # fmt: skip
    with pytest.raises(ColumnError, match="at grain span; one at grain row"):
        make_groups(grouping, 1)


def test_pairs_by_how_far_rewards_are_apart(tmp_path: Path, bpe_tokenizer: str) -> None:
    """The best against the worst, whatever the threshold; problems whose samples are alike give none, and all are counted."""
    rewards = {"a": [0.2, 0.9, 0.5, 0.2], "b": [0.5, 0.45], "c": [-2.0, -1.0, None], "d": [0.3], "e": [0.1, 0.1, 0.1]}
    rows = [
        trace(name, index, "wrong", f"{name} {index}")
        for name, all_of in rewards.items()
        for index in range(len(all_of))
    ]
    values = [value for all_of in rewards.values() for value in all_of]
    counts, groups = grouped(
        tmp_path, bpe_tokenizer, [rows], columns={"gain": [values]}, rewards={}, scores={"gain": 1}, margin=0.2
    )
    found = {
        group["problem_id"]: [(m["turns"][0]["content"], m["side"], round(m["reward"], 3)) for m in group["members"]]
        for group in groups
    }
    assert found["a"][0][1:] == (1, 0.9) or found["a"][1][1:] == (1, 0.9)
    assert sorted(side for _, side, _ in found["a"]) == [-1, 1]
    assert found["c"] == [("c 0", -1, -2.0), ("c 1", 1, -1.0)]
    assert found.keys() == {"a", "c"}
    assert counts.problems_dropped == {"small_margin": 2, "too_few": 1}
    assert counts.dropped == {"neither_best_nor_worst": 3, "no_gain": 1, "small_margin": 4, "too_few": 1}
    near = [trace("f", index, "wrong", f"f {index}") for index in range(2)]
    (tmp_path / "near").mkdir()
    counts, _ = grouped(
        tmp_path / "near", bpe_tokenizer, [near], columns={"gain": [[0.3, 0.1]]}, rewards={}, scores={"gain": 1}, margin=0.2
    )  # fmt: skip
    assert counts.groups == 1, "0.3 - 0.1 is below 0.2 by rounding alone"
    with pytest.raises(ValueError, match="margin makes one pair"):
        GroupSettings(margin=0.1, least=3)


def test_advantages_are_of_all_samples_of_a_problem(tmp_path: Path, bpe_tokenizer: str) -> None:
    """OREAL keeps one right and one wrong sample of a problem's, with their advantages over all: 16 samples, 3 of them right."""
    verdicts = ["correct"] * 3 + ["wrong"] * 13
    rows = [trace("p", index, verdict, f"p {index}") for index, verdict in enumerate(verdicts)]
    settings = {"rewards": {"correct": 1, "wrong": -1}, "both_sides": True, "per_side": 1}
    _, (group,) = grouped(tmp_path, bpe_tokenizer, [rows], advantages="leave_one_out", **settings)
    assert {m["side"]: m["reward"] for m in group["members"]} == {1: pytest.approx(26 / 15), -1: pytest.approx(-0.4)}
    (tmp_path / "scaled").mkdir()
    _, (group,) = grouped(tmp_path / "scaled", bpe_tokenizer, [rows], advantages="group_scaled", **settings)
    deviation = (1 - (10 / 16) ** 2) ** 0.5
    assert {m["side"]: m["reward"] for m in group["members"]} == {
        1: pytest.approx(26 / 16 / deviation), -1: pytest.approx(-6 / 16 / deviation)
    }  # fmt: skip
