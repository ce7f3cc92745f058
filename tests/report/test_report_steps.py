"""A run with named steps: the report shows each branch and every model, and `inspect` the rows of any step."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from made_run import CONFIG, write_data_stages, write_evaluation, write_training
from rich.console import Console

from redi_ray.cli.inspect import inspect_traces
from redi_ray.eval.reflection import Samples, statistics
from redi_ray.pipeline.graph import GraphError
from redi_ray.report.browse import BrowseError, TraceFilter
from redi_ray.report.page import ReportPaths, build_report
from redi_ray.report.summary import print_summary
from redi_ray.schemas import PAIR
from redi_ray.store.manifests import Stage
from redi_ray.store.parquet import write_table
from redi_ray.store.storage import join, write_bytes

STEPS = {
    "hard": {"do": "select", "of": "verified", "difficulty": {"max_rate": 0.7}},
    "spread": {"do": "select", "of": "verified", "diverse": {"problems": 200}},
    "own": {"do": "sample", "model": "sft"},
    "own_math": {"do": "verify", "of": "own"},
    "own_pairs": {"do": "pairs", "of": "own_math"},
    "nca": {"do": "train", "from": "sft", "on": "own_pairs", "objective": {"name": "dpo"}},
    "soup": {"do": "merge", "of": {"sft": 1, "nca": 1}},
    "exact": {"do": "locate", "of": "verified", "ask": "all", "locator": {"kind": "exact"}},
    "judged": {"do": "locate", "of": "verified", "ask": "all", "model": "sft", "locator": {"kind": "step_judge"}},
    "well_judged": {"do": "compare", "of": "verified", "column": "judged", "to": "exact"},
    "unlikely": {"do": "contrast", "of": "verified", "right": "sft", "wrong": "nca"},
    "lost": {"do": "critical", "of": "verified", "column": "unlikely", "model": "sft"},
    "looks_back": {"do": "reflect", "of": "verified"},
    "found_none": {"do": "critical", "of": "verified", "column": "unlikely", "model": "sft"},
}
REPEAT = {"steps": ["own", "own_math", "own_pairs", "nca"], "times": 2, "carry": {"sft": "nca"}}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Finished up to the first round; of the second only the samples are there."""
    uri = str(tmp_path_factory.mktemp("runs") / "demo")
    models = {"models": ["base", "sft", "nca@1", "soup"]}
    config = {**CONFIG, "steps": STEPS, "repeat": REPEAT, "evaluate": models}
    write_bytes(join(uri, "config.yaml"), yaml.safe_dump(config, sort_keys=False).encode())
    write_data_stages(uri)
    Stage(uri, "steps/hard/verified", {}, {}).publish(counts={"in": 3200, "out": 900}, dropped={"too_easy": 2300})
    measured = {
        name: {"mean_nearest": near, "mean_distance": 0.25, "coverage": covered}
        for name, near, covered in (("selected", 0.4125, 0.9), ("random", 0.2, 0.4))
    }
    Stage(uri, "steps/spread/verified", {}, {}).publish(
        counts={"in": 3200, "out": 800}, dropped={"not_diverse": 2400}, facts={"problems": 200, "diversity": measured}
    )
    for number, count in ((1, 500), (2, 600)):
        Stage(uri, f"steps/own@{number}/traces", {}, {}).publish(counts={"in": count, "out": count})
    Stage(uri, "steps/own_math@1/verified", {}, {}).publish(
        counts={"in": 500, "out": 500}, facts={"verdicts": {"correct": 300, "wrong": 200}}
    )
    groups = Stage(uri, "steps/own_pairs@1/curated", {}, {})
    sides = {side: [{"role": "assistant", "content": f"{side} of own"}] for side in ("chosen", "rejected")}
    pair = {"pair_id": "own-1", "problem_id": "p", "prompt": [{"role": "user", "content": "1+1"}], **sides}
    write_table(join(groups.uri, "pairs", "part-00000.parquet"), pa.Table.from_pylist([pair], schema=PAIR))
    groups.publish(counts={"in": 100, "out": 90, "positives": 90, "pairs": 60}, dropped={"no_correct_trace": 10})
    baseline = {"wrong_accuracy": 20.0, "right_accuracy": 30.0, "f1": 24.0, "threshold": 0.2, "auc": 0.5}
    Stage(uri, "steps/well_judged/comparison", {}, {}).publish(
        counts={"in": 3200, "out": 3000}, dropped={"not_known": 200},
        facts={"name": "well_judged", "of": "verified", "column": "judged", "to": "exact", "samples_with_error": 1290,
               "wrong_accuracy": 80.0, "right_accuracy": 60.0, "f1": 68.571429, "auc": None, "baselines": {"chance": baseline}},
    )  # fmt: skip
    found = {"with_critical": 40, "without_critical": 8, "auc": 0.8125, "auc_sem": 0.021, "value": 0.093, "place": 0.25}
    shares = {"top_1": 0.475, "top_1_by_chance": 0.0625, "top_5": 0.85, "top_5_by_chance": 0.3125}
    # none has a critical token: then there are no scores either
    for name, facts in (("lost", {**found, **shares}), ("found_none", {"with_critical": 0, "without_critical": 48})):
        Stage(uri, f"steps/{name}/critical", {}, {}).publish(
            counts={"in": 50, "out": 48}, dropped={"no_numbers": 2}, facts={"name": name, **facts}
        )
    seen = Samples(np.array([0, 0, 0, 1]), np.array(["correct", "wrong", "wrong", "correct"]), np.array([10.0, 20.0, 30.0, 5.0]),
                   np.full(4, np.nan), {"wait": np.array([2, 0, 1, 0])})  # fmt: skip
    Stage(uri, "steps/looks_back/reflection", {}, {}).publish(
        counts={"in": 4, "out": 4}, facts={"name": "looks_back", "of": "verified", **statistics(seen)}
    )
    for model in ("sft", "nca@1"):
        write_training(uri, model, steps=10)
    for model in ("base", "sft", "nca@1"):
        write_evaluation(uri, model, {"arithmetic": 40}, num_samples=2)
    return uri


@pytest.fixture(scope="module")
def built(run: str) -> ReportPaths:
    return build_report(run)


def test_the_funnel_has_every_branch_and_the_table_every_model(built: ReportPaths) -> None:
    report = json.loads(Path(built.json).read_text())
    assert [(entry["stage"], entry["count"]) for entry in report["funnel"]] == [
        ("problems", 800), ("traces", 3200), ("verified", 3200), ("positives", 725), ("pairs", 520), ("hard", 900),
        ("spread", 800),
        ("own@1", 500), ("own_math@1", 500), ("own_pairs@1: positives", 90), ("own_pairs@1: pairs", 60),
        ("own@2", 600), ("own_math@2", None), ("own_pairs@2: positives", None), ("own_pairs@2: pairs", None),
        *((f"{name}-{made}", None) for name in ("lost", "found_none") for made in ("samples", "verified")),
    ]  # fmt: skip
    branch = {entry["stage"]: entry for entry in report["funnel"]}
    assert branch["hard"]["dropped"] == {"too_easy": 2300}
    assert branch["own_math@1"]["counts"]["correct"] == 300
    assert [row["name"] for row in report["arms"]] == ["base", "sft", "nca@1"]
    assert report["control"] == "sft"
    for note in ("Stage own_math@2: not run.", "Training of nca@2: not run.", "Merge of soup: not run."):
        assert note in report["notes"]
    assert "Evaluation of soup: not run." in report["notes"]
    html = Path(built.html).read_text()
    for told in ("Pairs of own_pairs@1", "chosen of own", ">nca@2<", ">round 2<"):
        assert told in html


@pytest.mark.parametrize(
    ("step", "told"),
    [("own_pairs@1", "chosen of own"), ("curated", "rejected </pre>")],
)
def test_the_rows_of_any_step(run: str, step: str, told: str) -> None:
    stream = io.StringIO()
    count = inspect_traces(
        run, TraceFilter(), step=step, limit=5, whole=True, as_json=False, console=Console(file=stream, width=200)
    )
    assert count == 1
    assert told in stream.getvalue()


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ("soup", "step soup gives a model, which has no rows; these have: problems, traces, "),
        ("own_math@2", "step own_math@2 is not finished .* --until own_math@2"),
        ("own_math", "step own_math@2 is not finished .* --until own_math@2"),
        ("own_maths", "no step named own_maths"),
    ],
)
def test_steps_without_rows_are_refused_by_name(run: str, step: str, told: str) -> None:
    with pytest.raises((BrowseError, GraphError), match=told):
        inspect_traces(run, TraceFilter(), step=step, limit=5, whole=True, as_json=False)


def test_a_comparison_of_columns_is_in_report_page_and_summary(built: ReportPaths):
    (row,) = json.loads(Path(built.json).read_text())["comparisons"]
    assert (row["out"], row["dropped"], row["f1"]) == (3000, {"not_known": 200}, 68.571429)
    page = Path(built.html).read_text()
    assert "well_judged: judged against exact, samples of verified" in page
    assert "<td>80.0</td><td>60.0</td><td><b>68.6</b></td><td>-</td>" in page
    told = io.StringIO()
    print_summary(json.loads(Path(built.json).read_text()), Console(file=told, width=300))
    assert "names 80.0% of the first wrong steps of exact and clears 60.0%" in told.getvalue()
    assert "F1 68.6 (without a judge 24.0 at the most), AUC of steps -." in told.getvalue()


def test_critical_tokens_are_on_the_page_and_in_the_summary(built: ReportPaths) -> None:
    report = json.loads(Path(built.json).read_text())
    assert [(row["name"], row["column"], row["out"]) for row in report["critical"]] == [
        ("lost", "unlikely", 48), ("found_none", "unlikely", 48),
    ]  # fmt: skip
    page = Path(built.html).read_text()
    assert "lost: samples of verified, no_numbers 2" in page
    assert "<td>40</td>\n<td><b>0.812</b> &plusmn; 0.021</td><td>0.093</td><td>0.250</td>" in page
    assert "<td>0</td>\n<td><b>-</b></td>" in page
    told = io.StringIO()
    print_summary(report, Console(file=told, width=300))
    assert "lost: 40 of 48 samples of verified have a critical token; another token has" in told.getvalue()
    assert "found_none: 0 of 48 samples" in told.getvalue()


def test_looking_back_is_on_the_page_and_in_the_summary(built: ReportPaths) -> None:
    report, told = json.loads(Path(built.json).read_text()), io.StringIO()
    (row,) = report["reflections"]
    assert (row["name"], row["behaviours"]["wait"]["samples"], row["behaviours"]["wait"]["hits"]) == (
        "looks_back",
        2,
        3,
    )
    page = Path(built.html).read_text()
    assert "looks_back: 4 samples of verified" in page
    assert "<td>2</td><td>3</td><td>2</td>" in page
    assert "<b>+50.0</b> (+50.0 to +50.0)" in page, "within the one problem that has both, in points"
    print_summary(report, Console(file=told, width=200))
    assert "2 of 4 samples of verified show wait (3 hits); within problems right ones +50.0 points" in told.getvalue()


def test_problems_that_differ_are_on_the_page_and_in_the_summary_beside_chance(built: ReportPaths) -> None:
    report, told = json.loads(Path(built.json).read_text()), io.StringIO()
    (row,) = report["diversity"]
    assert (row["name"], row["problems"], row["random"]["coverage"]) == ("spread", 200, 0.4)
    page = Path(built.html).read_text()
    assert "spread: 200 problems of verified" in page
    assert "<td>0.412</td><td>0.250</td><td>90.0</td>" in page
    assert '<a href="#diversity">' in page
    print_summary(report, Console(file=told, width=300))
    assert (
        "spread: 200 problems of verified that differ: to the nearest other one 0.412 on the average (by chance 0.200); "
        "90.0% of all problems have one within 0.3 (by chance 40.0%)." in told.getvalue()
    )
