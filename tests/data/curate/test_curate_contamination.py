"""Benchmark problems are removed from the corpus, copied, embedded or edited; boilerplate that they share is not enough."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from curation_runs import curate_here, plan, read_out, run_here, solved

from redi_ray.config.curation import Contamination
from redi_ray.config.load import ConfigError, load_config
from redi_ray.data.curate.contamination import BenchmarkIndex
from redi_ray.data.sources.readers import DataError

BENCHMARK = {
    "dice-0": "Two fair dice are thrown. The probability that their product is at most 6 is $\\frac{m}{n}$, where $m$ and "
    "$n$ are relatively prime positive integers. Find $m+n$.",
    "dice-1": "Find $2 + 3$.",
    "dice-3": "A point is chosen in a square. The probability that it is near a side is $\\frac{m}{n}$, where $m$ and $n$ are "
    "relatively prime positive integers. Find $m+n$.",
    "dice-2": "How many positive divisors of 2004 are perfect squares less than 100?",
}


@pytest.fixture(scope="module")
def index() -> BenchmarkIndex:
    return BenchmarkIndex(BENCHMARK.items(), Contamination())


@pytest.mark.parametrize(
    ("text", "benchmark_id"),
    [
        (BENCHMARK["dice-0"], "dice-0"),
        (BENCHMARK["dice-0"].upper().replace(",", ";"), "dice-0"),
        (f"Solve this puzzle of last year's final. {BENCHMARK['dice-0']} Explain each step in your own words.", "dice-0"),
        (BENCHMARK["dice-0"].replace("fair", "regular").replace("thrown", "rolled"), "dice-0"),
        ("find 2+3", "dice-1"),
        ("How many positive divisors of 2004 are square numbers less than 100?", "dice-2"),
        ("You may use a table. How many positive factors of 2004 are perfect squares less than 100? Write it down.", "dice-2"),
    ],
)  # fmt: skip
def test_copies_embedded_and_edited_ones_are_found(index: BenchmarkIndex, text: str, benchmark_id: str):
    match = index.find(text)
    assert match is not None
    assert match.benchmark_id == benchmark_id
    assert match.ngram in " ".join(index_words(text))


def index_words(text: str) -> list[str]:
    from redi_ray.text.wording import words

    return words(text)


@pytest.mark.parametrize(
    "text",
    [
        "The ratio of two areas is $\\frac{m}{n}$, where $m$ and $n$ are relatively prime positive integers. Find $m+n$.",
        "Find $2 + 4$.",
        "Find $2 + 3$ and then the square root of it.",
        "How many positive divisors of 3600 are perfect squares less than 50?",
        "",
    ],
)
def test_boilerplate_and_other_numbers_stay(index: BenchmarkIndex, text: str):
    assert index.find(text) is None


def test_one_shared_ngram_is_enough_on_request():
    strict = BenchmarkIndex(BENCHMARK.items(), Contamination(share=0))
    match = strict.find("The ratio is $\\frac{m}{n}$, where $m$ and $n$ are relatively prime positive integers.")
    assert match is not None
    assert match.benchmark_id == "dice-0"


def test_removed_with_benchmark_and_ngram(tmp_path: Path, bpe_tokenizer: str):
    job = plan(tmp_path, bpe_tokenizer, [solved([BENCHMARK["dice-0"], "What is 7 - 2?"])], BENCHMARK, contamination={})
    counts = run_here(job)
    assert counts.dropped == {"contaminated": 1}
    assert [row["problem_id"] for row in read_out(tmp_path)["examples"]] == ["p1"]
    row = read_out(tmp_path)["dropped"][0]
    assert (row["problem_id"], row["reason"]) == ("p0", "contaminated")
    assert row["detail"] == "dice-0: 100% of it, such as `two fair dice are thrown the probability that`"


def test_files_of_ones_own(tmp_path: Path, bpe_tokenizer: str):
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps({"question": text}) + "\n" for text in BENCHMARK.values()))
    files = [{"name": "mine", "path": str(path), "column": "question"}]
    counts, tables = curate_here(
        tmp_path, bpe_tokenizer, solved(["find 2+3", "find 2+4"]), contamination={"files": files}
    )
    assert counts.dropped == {"contaminated": 1}
    assert tables["dropped"][0]["detail"].startswith("mine-1: 100%")
    with pytest.raises(DataError, match="no text in column 'problem'; its columns are \\['question'\\]"):
        curate_here(tmp_path, bpe_tokenizer, [], contamination={"files": [{"name": "mine", "path": str(path)}]})
    with pytest.raises(DataError, match="is not there"):
        curate_here(tmp_path, bpe_tokenizer, [], contamination={"files": [{"name": "x", "path": f"{path}.gone"}]})


def test_nothing_to_compare_with_is_an_error_before_anything_starts():
    with pytest.raises(ConfigError, match="nothing to compare with"):
        load_config("configs/demo.yaml", ["curate.contamination={}", "evaluate.benchmarks=[]"])
