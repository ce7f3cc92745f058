"""Which traces are picked, in which pairs, and which problems by their pass rate."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from curation_runs import Rows, curate_here, plan, read_out, reasons, run_here, trace
from hypothesis import given
from hypothesis import strategies as st

from redi_ray.config.load import ConfigError, load_config
from redi_ray.data.curate.choice import combinations, ranked
from redi_ray.data.curate.work import order_key


def answers(verdict: str, *given: tuple[str | None, int]) -> Rows:
    """Traces of a problem with these extracted answers and lengths."""
    start = 0 if verdict == "correct" else 10
    return [
        trace("p", start + n, verdict, "<think>" + "x" * length, extracted_answer=answer)
        for n, (answer, length) in enumerate(given)
    ]


TRACES = [
    *answers("correct", ("7", 30), ("7", 10), ("7", 50), ("7", 10)),
    *answers("wrong", (None, 5), ("3", 20), ("5", 90), ("$5$", 40), ("3", 70), ("5.", 60)),
]


def picked(tmp_path: Path, tokenizer: str, rows: Rows = TRACES, **config: Any) -> list[tuple[int, int]]:
    """(chosen, rejected) sample indices of the pairs, in the order of the shard."""
    counts, tables = curate_here(tmp_path, tokenizer, rows, **config)
    assert counts.pairs + sum(counts.pairs_dropped.values()) == counts.planned_pairs
    ids = [row["pair_id"].split("/")[1:] for row in tables["pairs"]]
    return [(int(one.split("#")[1]), int(other.split("#")[1])) for one, other in ids]


@pytest.mark.parametrize(
    ("chosen", "rejected", "pair"),
    [
        ("first", "first", (0, 10)),
        ("shortest", "longest", (1, 12)),  # the first of two equally short ones
        ("longest", "shortest", (2, 10)),
        ("first", "most_frequent_wrong", (0, 12)),  # 5, $5$ and 5. are one answer, before 3
    ],
)
def test_picks(tmp_path: Path, bpe_tokenizer: str, chosen: str, rejected: str, pair: tuple[int, int]):
    config = {"chosen": {"pick": chosen}, "rejected": {"pick": rejected}}
    assert picked(tmp_path, bpe_tokenizer, **config) == [pair]


def test_random_picks_follow_the_seed():
    found = [[trace["sample_index"] for trace in ranked(TRACES, "random", seed % 12)] for seed in range(24)]
    assert found[:12] == found[12:]
    assert len({order[0] for order in found}) > 5
    assert all(sorted(order) == [trace["sample_index"] for trace in TRACES] for order in found)


def test_several_pairs_take_the_answers_in_turn(tmp_path: Path, bpe_tokenizer: str):
    """First one trace of each wrong answer, the frequent ones first; without an answer last. 24 combinations in all."""
    config = {"rejected": {"pick": "most_frequent_wrong"}}
    assert picked(tmp_path / "a", bpe_tokenizer, pairs_per_problem=4, **config) == [(0, 12), (1, 11), (2, 13), (3, 14)]
    every = picked(tmp_path / "b", bpe_tokenizer, pairs_per_problem=100, **config)
    assert len(every) == len(set(every)) == 24
    assert every[5][1] == 10


@given(st.integers(0, 12), st.integers(0, 12), st.integers(1, 200))
def test_combinations_differ_and_use_both_sides_equally(chosen: int, rejected: int, limit: int):
    found = combinations(chosen, rejected, limit)
    assert len(found) == len(set(found)) == min(limit, chosen * rejected)
    for side, size in enumerate((chosen, rejected)):
        used = [sum(pair[side] == index for pair in found) for index in range(size)]
        assert not used or max(used) - min(used) <= 1 or len(found) > math.lcm(chosen, rejected)
    for one, other in pairwise(found[: math.lcm(chosen, rejected)]):
        assert (other[0] - one[0]) % chosen == (1 % chosen)


def test_several_positives(tmp_path: Path, bpe_tokenizer: str):
    """Two of three fit: the problem stays, and the third is counted. Pairs are no more than before."""
    rows = [*TRACES[:3], trace("p", 9, "wrong")]
    config = {"positives_per_problem": 3, "max_response_tokens": 40}
    counts, tables = curate_here(tmp_path, bpe_tokenizer, rows, **config)
    assert (counts.positives, counts.examples, counts.examples_dropped) == (1, 2, {"chosen_too_long": 1})
    assert [row["example_id"].split("#")[1] for row in tables["examples"]] == ["0", "1"]
    assert counts.pairs == 1
    assert reasons(tables, "example") == {"p": "chosen_too_long"}


def test_right_traces_of_others_stand_in(tmp_path: Path, bpe_tokenizer: str):
    """Own right traces come first whatever the pick; where there is none another's is chosen, and never rejected or rated."""
    own = [
        trace("a", 0, "correct", "<think>own and long"),
        trace("a", 1, "wrong"),
        trace("b", 0, "wrong", "<think>b"),
        trace("c", 0, "wrong"),
        trace("d", 0, "correct"),
    ]
    others = [
        trace("a", 0, "correct", "<think>o"),
        trace("b", 0, "correct", "<think>other's"),
        trace("b", 1, "wrong", "<think>other's wrong"),
        trace("c", 0, "wrong"),
        trace("d", 1, "wrong"),
    ]
    curation = plan(
        tmp_path,
        bpe_tokenizer,
        [own, others],
        chosen={"pick": "shortest"},
        pairs_per_problem=2,
        difficulty={"max_rate": 0.5},
    )
    counts, tables = run_here(replace(curation, others=1)), read_out(tmp_path)
    pairs = {row["pair_id"].split("/", 1)[1]: (row["chosen"], row["rejected"]) for row in tables["pairs"]}
    assert set(pairs) == {"a#0/a#1", "a#0@chosen_of/a#1", "b#0@chosen_of/b#0"}
    assert [side[0]["content"] for side in pairs["b#0@chosen_of/b#0"]] == ["<think>other's", "<think>b"]
    assert [
        row["example_id"].split("/")[1] for row in sorted(tables["examples"], key=lambda row: row["problem_id"])
    ] == [
        "a#0",
        "b#0@chosen_of",
    ]
    assert reasons(tables) == {"c": "no_correct_trace", "d": "too_easy"}
    assert {row["problem_id"]: row["samples"] for row in tables["pass_rates"]} == {"a": 2, "b": 1, "c": 1, "d": 1}
    assert counts.traces == 10


def problems_of(*rates: tuple[int, int]) -> Rows:
    """A problem `c/n` for each (correct, samples)."""
    return [
        trace(f"{correct}/{samples}", n, "correct" if n < correct else "wrong", model="weak")
        for correct, samples in rates
        for n in range(samples)
    ]


def test_difficulty_range_and_table(tmp_path: Path, bpe_tokenizer: str):
    """Traces of other models and verdicts that tell nothing do not count."""
    rows = problems_of((1, 8), (4, 8), (8, 8), (1, 2))
    rows += [trace("4/8", 20, "correct", model="strong"), trace("4/8", 21, "timeout", model="weak")]
    difficulty = {"model": "weak", "min_samples": 4, "min_rate": 0.2, "max_rate": 0.9}
    counts, tables = curate_here(tmp_path, bpe_tokenizer, rows, difficulty=difficulty)
    assert reasons(tables) == {"1/8": "too_hard", "8/8": "too_easy", "1/2": "too_few_samples"}
    assert [row["problem_id"] for row in tables["examples"]] == ["4/8"]
    found = {row["problem_id"]: row for row in tables["pass_rates"]}
    assert {name: row["pass_rate"] for name, row in found.items()} == {"1/8": 0.125, "4/8": 0.5, "8/8": 1, "1/2": 0.5}
    assert (found["4/8"]["samples"], found["4/8"]["model"]) == (8, "weak")
    assert counts.pass_rates == {"0.1": 1, "0.5": 2, "1.0": 1}


def test_buckets_cap_what_is_left(tmp_path: Path, bpe_tokenizer: str):
    """0.25 belongs to the first bucket, and those with the smallest keys stay."""
    rows = problems_of((1, 4), (1, 5), (1, 6), (1, 7), (3, 4), (4, 5))
    buckets = [{"up_to": 0.25, "max_problems": 2}, {"up_to": 0.75}, {"up_to": 1, "max_problems": 0}]
    counts, tables = curate_here(tmp_path, bpe_tokenizer, rows, difficulty={"buckets": buckets})
    assert counts.dropped == {"over_bucket_cap": 3}
    kept = {row["problem_id"]: row["example_id"] for row in tables["examples"]}
    assert "3/4" in kept
    assert "4/5" not in kept
    assert len(kept) == 3
    easy = sorted(["1/4", "1/5", "1/6", "1/7"], key=lambda name: order_key(42, name))
    assert set(easy[:2]) <= set(kept)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("curate.difficulty={min_rate: 0.9, max_rate: 0.1}", "min_rate 0.9 is larger than max_rate 0.1"),
        ("curate.difficulty={buckets: [{up_to: 0.5}]}", "must rise and end with 1"),
        ("curate.chosen.pick=most_frequent_wrong", "curate.chosen.pick"),
        ("curate.pairs_per_problem=0", "curate.pairs_per_problem"),
    ],
)
def test_mistakes_are_named(override: str, told: str):
    with pytest.raises(ConfigError, match=told):
        load_config("configs/demo.yaml", [override])
