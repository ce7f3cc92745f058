"""Real traces from import to report: 5,276 solutions of GSM8K problems, our verdicts against the labels they came with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from processes import rows, run

from redi_ray.schemas import votes_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def finished(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    traces = test_data / "traces" / "gsm8k_openai_example_model_solutions.jsonl.gz"
    benchmark = test_data / "benchmarks" / "prm800k_math500.jsonl"
    run(
        "run",
        "configs/gsm8k_traces.yaml",
        f"problems.source.paths=[{traces.resolve()}]",
        f"evaluate.benchmarks=[{{name: math500, path: {benchmark.resolve()}, max_problems: 10}}]",
        "sft.train.epochs=1",
        f"storage.root={root}",
    )
    return root / "gsm8k_traces"


def test_every_trace_is_there_once(finished: Path):
    ids = [row["trace_id"] for row in rows(finished, "verified", "verified", ["trace_id"])]
    assert len(ids) == len(set(ids)) == 5276


def test_verdicts_agree_with_the_shipped_labels(finished: Path):
    """11 solutions never write `A:`, so they hold no answer; everything else agrees."""
    verified = rows(finished, "verified", "verified", ["trace_id", "verdict", "votes", "completion"])
    differ = [row for row in verified if row["verdict"] != votes_of(row["votes"])["label"]]
    assert [row["verdict"] for row in differ] == ["no_answer"] * 11
    assert all("A:" not in row["completion"] for row in differ)
    assert sum(votes_of(row["votes"])["label"] == "correct" for row in verified) == 2001


def test_the_funnel_reconciles_down_to_pairs(finished: Path):
    curated = json.loads((finished / "curated" / "manifest.json").read_text())
    counts = curated["counts"]
    assert counts["in"] == 1319
    assert counts["positives"] + sum(curated["dropped"].values()) == 1319
    assert counts["pairs"] + sum(curated["facts"]["pairs_dropped"].values()) == counts["positives"]
    assert counts["pairs"] > 600


def test_the_report_has_the_arms(finished: Path):
    report = json.loads((finished / "report" / "report.json").read_text())
    assert [arm["name"] for arm in report["arms"]] == ["base", "sft", "alpha0", "redi"]
