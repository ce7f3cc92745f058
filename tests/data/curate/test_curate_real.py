"""5,276 real solutions of 1,319 GSM8K problems: with every block on, each problem and each trace is accounted for."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from curation_runs import Rows, plan, read_out, run_here, trace

from redi_ray.data.curate.curate import CurateCounts

MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")


@pytest.fixture(scope="module")
def solutions(test_data: Path) -> Rows:
    """Verified by the label that came with each."""
    with gzip.open(test_data / "traces" / "gsm8k_openai_example_model_solutions.jsonl.gz", "rt") as file:
        problems = [json.loads(line) for line in file]
    return [
        trace(
            f"gsm8k-{number}",
            index,
            "correct" if row[model]["is_correct"] else "wrong",
            "<think>" + row[model]["solution"],
            problem=row["question"],
            answer=row["ground_truth"],
            model=model,
            extracted_answer=row[model]["solution"].rpartition("A:")[2].strip(),
        )
        for number, row in enumerate(problems)
        for index, model in enumerate(MODELS)
    ]


@pytest.fixture(scope="module")
def math500(test_data: Path) -> dict[str, str]:
    with open(test_data / "benchmarks" / "prm800k_math500.jsonl") as file:
        return {f"math500-{number}": json.loads(line)["problem"] for number, line in enumerate(file)}


BLOCKS = {
    "duplicates": {},
    "contamination": {},
    "difficulty": {"max_rate": 0.99},
    "chosen": {"repetition": {}, "pick": "shortest"},
    "rejected": {"repetition": {}, "pick": "most_frequent_wrong"},
    "pairs_per_problem": 2,
    "max_prompt_tokens": 400,
    "max_response_tokens": 900,
}


@pytest.fixture(scope="module")
def curated(
    solutions: Rows, math500: dict[str, str], bpe_tokenizer: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[CurateCounts, dict[str, Rows]]:
    folder = tmp_path_factory.mktemp("real")
    job = plan(folder, bpe_tokenizer, [solutions[n::3] for n in range(3)], math500, **BLOCKS)
    counts = run_here(replace(job, part_problems=400))
    return counts, read_out(folder)


def test_every_problem_is_out_or_dropped_once(solutions: Rows, curated: tuple[CurateCounts, dict[str, Rows]]):
    counts, tables = curated
    assert counts.traces == 5276
    assert counts.problems == counts.positives + sum(counts.dropped.values()) == 1319
    out = {row["problem_id"] for row in tables["examples"]}
    gone = [row["problem_id"] for row in tables["dropped"] if row["what"] == "problem"]
    assert len(gone) == len(set(gone))
    assert out.isdisjoint(gone)
    assert out | set(gone) == {row["problem_id"] for row in solutions}
    told = Counter((row["what"], row["reason"]) for row in tables["dropped"])
    reported = (("problem", counts.dropped), ("pair", counts.pairs_dropped), ("trace", counts.traces_dropped))
    assert told == {(what, reason): n for what, found in reported for reason, n in found.items()}
    assert counts.pairs + sum(counts.pairs_dropped.values()) == counts.planned_pairs
    assert len(tables["pairs"]) == counts.pairs > 500


def test_the_blocks_leave_a_clean_benchmark_alone(curated: tuple[CurateCounts, dict[str, Rows]]):
    """GSM8K holds no problem twice and none of MATH-500's; near-duplicates would be mistakes."""
    counts, _ = curated
    assert not {"duplicate", "near_duplicate", "contaminated"} & set(counts.dropped)


def test_pairs_are_what_the_rules_say(solutions: Rows, curated: tuple[CurateCounts, dict[str, Rows]]):
    traces = {row["trace_id"]: row for row in solutions}
    right = {t["problem_id"]: [] for t in solutions}
    for row in solutions:
        if row["verdict"] == "correct":
            right[row["problem_id"]].append(len(row["completion"]))
    _, tables = curated
    for row in tables["pairs"]:
        _, chosen, rejected = row["pair_id"].split("/")
        assert traces[chosen]["verdict"] == "correct"
        assert traces[rejected]["verdict"] == "wrong"
        assert row["chosen"][0]["content"] == traces[chosen]["completion"]
        assert row["rejected"][0]["content"] == traces[rejected]["completion"]
        assert traces[chosen]["problem_id"] == traces[rejected]["problem_id"] == row["problem_id"]
    for row in tables["examples"]:
        assert len(row["messages"][-1]["content"]) == min(right[row["problem_id"]])


def test_pass_rates_are_those_of_the_labels(solutions: Rows, curated: tuple[CurateCounts, dict[str, Rows]]):
    correct = Counter(row["problem_id"] for row in solutions if row["verdict"] == "correct")
    _, tables = curated
    assert len(tables["pass_rates"]) == 1319
    assert all(row["pass_rate"] == correct[row["problem_id"]] / 4 for row in tables["pass_rates"])


def test_the_benchmark_itself_goes_entirely(solutions: Rows, bpe_tokenizer: str, tmp_path: Path):
    rows = solutions[:400]
    benchmark = {row["problem_id"]: row["problem"] for row in rows}
    counts = run_here(plan(tmp_path, bpe_tokenizer, [rows], benchmark, contamination={}))
    assert counts.dropped == {"contaminated": 100}


JUDGED = """
import hashlib, json, sys
from itertools import count
from redi_ray.config.curation import Contamination, Duplicates
from redi_ray.data.curate.contamination import BenchmarkIndex
from redi_ray.data.curate.duplicates import Fingerprinter
folder = sys.argv[1] + "/benchmarks/"
math500 = [json.loads(line)["problem"] for line in open(folder + "prm800k_math500.jsonl")]
gsm8k = [row["problem"] for row in json.load(open(folder + "rllm_gsm8k.json"))][:400]
benchmark = zip(map("b-{}".format, count()), (*math500[::2], *gsm8k[::2]))
index = BenchmarkIndex(benchmark, Contamination())
printer = Fingerprinter(Duplicates())
for text in (*math500[1::2], *gsm8k[1::2]):
    found = printer.fingerprint(text, "1/2")
    print(index.find(text), *(hashlib.md5(bytes(found[name])).hexdigest() for name in ("whole", "ngrams", "bands")))
"""


def test_every_process_judges_alike(test_data: Path):
    """Python salts its hashes anew in each process; workers, and a run that is resumed, must not depend on it."""
    outputs = [
        subprocess.run(
            [sys.executable, "-c", JUDGED, str(test_data)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "3", "12345")
    ]
    assert len(outputs[0].splitlines()) == 450
    assert len(set(outputs)) == 1
