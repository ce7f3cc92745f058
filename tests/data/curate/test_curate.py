"""Curation follows the paper's rule whatever the sharding, counts every drop, resumes, and its output loads elsewhere."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from curation_runs import PROMPT, curate_here, plan, read_out, run_here, trace, write_shards
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redi_ray.config.curation import CurateConfig
from redi_ray.data.curate.curate import Worker, curate, run_passes
from redi_ray.modeling.tokenizer import character_tokenizer

LIMITS = {"max_prompt_tokens": 20, "max_response_tokens": 20}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tokenizer")
    character_tokenizer("0123456789abcdefghijklmnopqrstuvwxyz ").save_pretrained(folder)
    return str(folder)


TRACES = [
    trace("both", 0, "wrong"), trace("both", 1, "correct"), trace("both", 2, "correct"), trace("both", 3, "wrong"),
    trace("right", 0, "correct"), trace("right", 1, "correct"),
    trace("hopeless", 0, "wrong"), trace("hopeless", 1, "no_answer"),
    trace("unsure", 0, "timeout"), trace("unsure", 1, "correct"), trace("unsure", 2, "error"),
    trace("longest", 0, "correct", "<think>" + "x" * 50), trace("longest", 1, "correct"), trace("longest", 2, "wrong"),
    trace("rambling", 0, "correct"), trace("rambling", 1, "wrong", "<think>" + "x" * 50), trace("rambling", 2, "wrong"),
    trace("edge", 0, "correct", "<think>" + "x" * 19), trace("edge", 1, "wrong", "<think>" + "x" * 20),
    trace("bare", 0, "correct", "no prefix"), trace("bare", 1, "wrong"),
    trace("p" * 40, 0, "correct"), trace("p" * 40, 1, "wrong"),
]  # fmt: skip


@pytest.mark.usefixtures("ray_session")
def test_the_paper_rule_with_every_reason(tmp_path: Path, tokenizer: str):
    """20 tokens are allowed for a response, its end-of-turn token included: 19 characters fit, 20 do not."""
    shards = write_shards(tmp_path, [TRACES[:9], TRACES[9:]])
    config = CurateConfig(**LIMITS)
    counts = curate(shards, f"{tmp_path}/out", config, tokenizer=tokenizer, prompt=PROMPT, num_problems=12)
    tables = read_out(tmp_path)
    assert counts.dropped == {
        "no_correct_trace": 1,  # hopeless
        "chosen_too_long": 1,  # longest: its second correct trace does not step in
        "chosen_without_prefix": 1,  # bare
        "prompt_too_long": 1,
        "no_trace": 3,  # 12 problems, 9 with traces
    }
    assert counts.pairs_dropped == {"no_wrong_trace": 2, "rejected_too_long": 2}  # right, unsure; rambling, edge
    pairs = {row["problem_id"]: row for row in tables["pairs"]}
    assert set(pairs) == {"both"}
    assert pairs["both"]["chosen"] == [{"role": "assistant", "content": "<think>both 1"}]
    assert pairs["both"]["rejected"] == [{"role": "assistant", "content": "<think>both 0"}]
    assert pairs["both"]["prompt"] == [{"role": "user", "content": "p both"}]
    examples = {row["problem_id"]: row["messages"][-1]["content"] for row in tables["examples"]}
    assert set(examples) == {"both", "right", "unsure", "rambling", "edge"}
    assert examples["unsure"] == "<think>unsure 1"
    assert counts.positives + sum(counts.dropped.values()) == counts.problems
    assert counts.pairs + sum(counts.pairs_dropped.values()) == counts.positives == counts.examples
    assert Counter((row["what"], row["reason"]) for row in tables["dropped"]) == {
        **{("problem", reason): n for reason, n in counts.dropped.items() if reason != "no_trace"},
        **{("pair", reason): n for reason, n in counts.pairs_dropped.items()},
    }


def test_time_outs_are_rejected_only_when_asked_for(tmp_path: Path, tokenizer: str):
    _, tables = curate_here(tmp_path, tokenizer, TRACES, rejected_verdicts=["wrong", "timeout"], **LIMITS)
    assert {row["problem_id"] for row in tables["pairs"]} == {"both", "unsure"}


EVERYTHING: dict[str, Any] = {
    "duplicates": {},
    "contamination": {},
    "difficulty": {"max_rate": 0.9, "buckets": [{"up_to": 0.6, "max_problems": 4}, {"up_to": 1}]},
    "chosen": {"pick": "random", "min_chars": 10},
    "rejected": {"pick": "most_frequent_wrong"},
    "pairs_per_problem": 3,
    "positives_per_problem": 2,
    "max_prompt_tokens": 60,
    "max_response_tokens": 20,
}
TEXTS = ("find the sum of 2 and 3", "FIND the sum of 2 and 3!", "how many are 4 of 5 eggs?", "p bench", "what is left")
MORE = [
    trace(f"{place}{text_number}", index, "correct" if (index * place + text_number) % 3 else "wrong", problem=text)
    | {"extracted_answer": str(index % 2)}
    for place in range(4)
    for text_number, text in enumerate(TEXTS)
    for index in range(4)
]


def sorted_tables(folder: Path | str) -> dict[str, list[str]]:
    """Whole rows, in an order of their own."""
    return {name: sorted(map(repr, rows)) for name, rows in read_out(folder).items()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tokenizer: str) -> dict[str, list[str]]:
    """What everything at once makes of one shard."""
    folder = tmp_path_factory.mktemp("whole")
    counts = run_here(plan(folder, tokenizer, [[*TRACES, *MORE]], {"bench-1": "P, bench."}, **EVERYTHING))
    assert {"contaminated", "duplicate", "too_easy", "over_bucket_cap"} <= set(counts.dropped)
    assert counts.traces_dropped
    assert counts.pairs > counts.positives > 0
    return sorted_tables(folder)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(len(TRACES) + len(MORE))), cuts=st.lists(st.integers(0, 103), max_size=5))
def test_any_sharding_in_any_order_gives_identical_tables(
    order: list[int], cuts: list[int], whole: dict, tokenizer: str, tmp_path_factory: pytest.TempPathFactory
):
    rows = [*TRACES, *MORE]
    assert len(rows) == 103
    borders = [0, *sorted(cuts), len(rows)]
    shards = [[rows[i] for i in order[a:b]] for a, b in itertools.pairwise(borders)]
    folder = tmp_path_factory.mktemp("torn")
    run_here(plan(folder, tokenizer, shards, {"bench-1": "P, bench."}, **EVERYTHING))
    assert sorted_tables(folder) == whole


def test_the_same_on_s3(bucket: str, tokenizer: str, whole: dict):
    rows = [*TRACES, *MORE]
    run_here(plan(f"{bucket}/run", tokenizer, [rows[::2], rows[1::2]], {"bench-1": "P, bench."}, **EVERYTHING))
    assert sorted_tables(f"{bucket}/run") == whole


class Killed(Exception):
    pass


@pytest.mark.parametrize("after", [1, 4, 6, 8])
def test_a_killed_curation_goes_on_where_it_was(tmp_path: Path, tokenizer: str, whole: dict, after: int):
    """Cut off after so many tasks: these are not done again, and the tables are those of a run that was left alone."""
    rows = [*TRACES, *MORE]
    job = plan(tmp_path, tokenizer, [rows[i::3] for i in range(3)], {"bench-1": "P, bench."}, **EVERYTHING)
    worker, done = Worker(job), Counter[str]()

    def until_killed(name: str, tasks: list[int]):
        for task in tasks:
            if done.total() == after:
                raise Killed
            done[name] += 1
            yield worker.work(name, task)

    with pytest.raises(Killed):
        run_passes(job, until_killed, 0)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    counts = run_here(job)
    written_twice = [str(p) for p, time in before.items() if p.stat().st_mtime_ns != time]
    assert not written_twice
    assert sorted_tables(tmp_path) == whole
    assert run_here(replace(job)) == counts  # all of it found done


def test_a_trace_that_was_written_twice_counts_once(tmp_path: Path, tokenizer: str):
    rows = [trace("a", 0, "correct"), trace("a", 1, "wrong"), trace("a", 0, "correct")]
    counts, tables = curate_here(tmp_path, tokenizer, rows, difficulty={}, **LIMITS)
    assert counts.traces_dropped == {"same_trace_again": 1}
    assert tables["pass_rates"][0]["samples"] == 2


def test_the_output_loads_in_datasets_with_the_columns_of_preference_trainers(tmp_path: Path, tokenizer: str):
    import datasets

    curate_here(tmp_path, tokenizer, TRACES, **LIMITS)
    loaded = datasets.load_dataset("parquet", data_files=f"{tmp_path}/out/pairs/*.parquet", split="train")
    assert {"prompt", "chosen", "rejected"} <= set(loaded.column_names)
    assert loaded[0]["chosen"][0]["role"] == "assistant"
