"""Which problems a selection keeps: by rounds of sampling, counted from 1, with those never solved; by chance, as many."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from curation_runs import trace, write_shards
from pydantic import ValidationError

from redi_ray.config.curation import Difficulty
from redi_ray.config.selection import Balance, RandomProblems, Rounds
from redi_ray.data.curate.problems import by_balance, by_chance, by_difficulty, by_rounds, rounds_needed, select
from redi_ray.data.sources.readers import DataError
from redi_ray.store import parquet, storage


def test_rounds_of_real_budgets(test_data: Path) -> None:
    """mint_difficulty, where sample k had a budget of k + 1 turns: first budget that solves, of 7,844 problems and models."""
    needed, traces = Counter[int | None](), []
    with gzip.open(test_data / "steps_turns_rewards/mint_difficulty.jsonl.gz", "rt") as file:
        for row in map(json.loads, file):
            for model, solved in row["solved_within"].items():
                problem = f"{row['problem_id']} {model}"
                traces += [(problem, index, "correct" if right else "wrong") for index, right in enumerate(solved)]
    needed.update(rounds_needed(traces, samples=1).values())
    assert needed == {1: 431, 2: 960, 3: 448, 4: 272, 5: 162, None: 5571}
    kept = Counter(by_rounds(traces, Rounds(more_than=3)).values())
    assert kept == {"": 272 + 162 + 5571, "too_easy": 431 + 960 + 448}
    solved = Counter(by_rounds(traces, Rounds(more_than=3, never=False, at_most=4)).values())
    assert (solved[""], solved["never_solved"], solved["too_hard"]) == (272, 5571, 162)
    again = {  # each budget is a run of its own: a larger one may fail where a smaller one has solved
        one
        for (one, _, before), (other, _, after) in pairwise(traces)
        if one == other and (before, after) == ("correct", "wrong")
    }
    assert len(again) == 863
    of_largest = [(problem.rsplit(" ", 1)[0], index, verdict) for problem, index, verdict in traces if index == 4]
    right = Counter(problem for problem, _, verdict in of_largest if verdict == "correct")
    rates = by_difficulty(of_largest, Difficulty(min_rate=1e-9, max_rate=1 - 1e-9))
    assert Counter(rates.values()) == {"": 129, "too_hard": 19}
    assert right.total() / len(of_largest) == pytest.approx(0.2055, abs=5e-5)
    in_pairs = Counter(rounds_needed(traces, samples=2).values())
    assert in_pairs == {1: 431 + 960, 2: 448 + 272, 3: 162, None: 5571}


def test_papers_counting_from_0_is_said() -> None:
    """ThinkLite's `iters > 5` is the seventh iteration or a later one."""
    traces = [(f"p{iters}", iters, "correct") for iters in range(9)]
    kept = [problem for problem, why in by_rounds(traces, Rounds(more_than=6)).items() if not why]
    assert kept == [f"p{iters}" for iters in range(9) if iters > 5]
    with pytest.raises(ValidationError, match="leave no problem"):
        Rounds(more_than=3, at_most=3, never=False)


def test_chance_takes_as_many_by_the_seed_alone() -> None:
    problems = [f"p{number}" for number in range(50)]
    drawn = [
        {problem for problem, why in by_chance(order, 20, seed).items() if not why}
        for order, seed in ((problems, 0), (problems[::-1], 0), (problems, 1))
    ]
    assert [len(some) for some in drawn] == [20, 20, 20]
    assert drawn[0] == drawn[1] != drawn[2]


def test_shards_are_copied_without_the_others(tmp_path: Path) -> None:
    """Rows as they are, under the same names; a shard with nothing left is not written; what goes is counted by reason."""
    shards = [
        [trace("easy", 0, "correct"), trace("hard", 0, "wrong"), trace("easy", 1, "correct")],
        [trace("easy", 2, "correct"), trace("hard", 1, "correct"), trace("odd", 0, "timeout")],
        [trace("easy", 3, "correct")],
    ]
    uris = write_shards(tmp_path, shards)
    kept = select(uris, uris, [], [], f"{tmp_path}/in", f"{tmp_path}/out", Difficulty(max_rate=0.5))
    assert (kept.rows, kept.problems, kept.left_out) == (2, 1, {"too_easy": 4, "not_rated": 1})
    assert kept.verdicts == {"wrong": 1, "correct": 1}
    files = storage.list_files(f"{tmp_path}/out")
    assert [uri.rsplit("/", 1)[-1] for uri in files] == ["part-0.parquet", "part-1.parquet"]
    rows = [row for table in parquet.read_tables(files) for row in table.to_pylist()]
    before = [row for table in parquet.read_tables(uris) for row in table.to_pylist()]
    assert rows == [row for row in before if row["problem_id"] == "hard"]
    chance = select(uris, uris, files, [], f"{tmp_path}/in", f"{tmp_path}/chance", RandomProblems(like="hard"))
    assert chance.problems == 1


def test_a_balance_of_answers():
    """As many problems of each answer, those that can be used; which ones depends on neither order nor the others."""
    traces = [(f"y{n}", "Yes", "correct" if n % 3 else "wrong") for n in range(60)]
    traces += [
        (f"n{n}", "No", verdict) for n in range(20) for verdict in (("correct", "wrong") if n < 10 else ("wrong",))
    ]
    why = by_balance(traces, Balance())
    assert Counter(why.values()) == {"": 20, "over_the_balance": 30, "no_right_trace": 30}
    assert {key[0] for key, reason in why.items() if not reason} == {"y", "n"}
    assert by_balance(traces[::-1], Balance()) == why
    assert by_balance(traces, Balance(seed=1)) != why
    both = by_balance([*traces, *((f"y{n}", "Yes", "wrong") for n in range(5))], Balance(needs="both"))
    assert Counter(both.values()) == {"": 6, "over_the_balance": 7, "not_right_and_wrong": 67}
    with pytest.raises(DataError, match=r"at most 10 reference answers.* these have 11"):
        by_balance([(str(n), str(n), "correct") for n in range(11)], Balance())
