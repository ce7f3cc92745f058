"""Protects the report: its numbers, that nothing is missing from it, that hostile text stays text, that it never crashes.

The run it reads is made up by `made_run.py`.
"""

from __future__ import annotations

import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from made_run import ACCURACY, CONFIG, write_data_stages, write_evaluation, write_run, write_training
from rich.console import Console

from redi_ray.report.numbers import findings
from redi_ray.report.page import build_report
from redi_ray.report.summary import print_summary
from redi_ray.store.manifests import Stage
from redi_ray.store.storage import StorageError, join, write_bytes, write_json


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    uri = str(tmp_path_factory.mktemp("runs") / "demo")
    write_run(uri, {"arithmetic": 200, "gsm8k": 50})
    build_report(uri)
    return uri


def read_report(run: str) -> dict:
    return json.loads((Path(run) / "report" / "report.json").read_text())


class Page(HTMLParser):
    """The page as a browser's parser sees it: tags, attributes, text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def page(run: str) -> Page:
    return Page((Path(run) / "report" / "index.html").read_text())


def test_arms(run: str) -> None:
    """One row per benchmark and arm, in the order base, SFT, stage 2; the numbers are the evaluation's own."""
    rows = read_report(run)["arms"]
    assert [(row["benchmark"], row["name"]) for row in rows] == [
        (b, a) for b in ("arithmetic", "gsm8k") for a in ACCURACY
    ]
    for row in rows:
        uri = next((Path(run) / "eval" / row["name"]).glob("*/report.json"))
        source = next(b for b in json.loads(uri.read_text())["benchmarks"] if b["name"] == row["benchmark"])
        assert (row["pass@1"], row["pass@k"]) == (source["pass_at_1"], source["pass_at_k"])
        for key in ("sem", "num_problems", "num_samples", "truncated", "mean_tokens"):
            assert row[key] == source[key]
    redi = next(row for row in rows if row["name"] == "redi")
    control = next(row for row in rows if row["name"] == "alpha0")
    assert redi["difference"]["control"] == "alpha0"
    assert redi["difference"]["difference"] == pytest.approx(redi["pass@1"] - control["pass@1"])
    assert control["difference"] is None
    average = read_report(run)["averages"]["redi"]
    both = [row for row in rows if row["name"] == "redi"]
    assert average["pass@1"] == pytest.approx(sum(row["pass@1"] for row in both) / 2)
    assert average["sem"] == pytest.approx(math.sqrt(both[0]["sem"] ** 2 + both[1]["sem"] ** 2) / 2)


def test_what_scorers_add(run: str) -> None:
    """A mean with its paired difference, and what each choice among k samples solves: as JSON, on the page, on the terminal."""
    report = read_report(run)
    scored = {row["name"]: row for row in report["arms"] if row["benchmark"] == "gsm8k"}
    redi, control = scored["redi"], scored["alpha0"]
    assert redi["score"]["difference"]["difference"] == pytest.approx(redi["score"]["mean"] - control["score"]["mean"])
    assert "problem_means" not in redi["score"]
    assert control["score"]["difference"] is None
    assert redi["ranked"]["at_k"]["8"]["best"] == redi["pass@k"]["8"]
    assert redi["agreement"]["num_samples"] == 8
    assert (redi["guided"]["equal_k"], redi["guided"]["best_against_best"]) == (3, None)
    assert not any("score" in row for row in report["arms"] if row["benchmark"] == "arithmetic")
    words = " ".join(page(run).words)
    assert all(
        told in words for told in ("bad_format 3", "Choosing among k samples", "gsm8k: by rule, ", "have no number")
    )
    assert f"{redi['score']['difference']['difference']:+.4f}" in words
    assert "Agreement with scores that were given" in words
    assert "gsm8k: guided by prm, 4 kept, 2 next steps behind each" in words
    difference = redi["guided"]["best_against_majority"]["difference"]
    assert f"majority: {100 * difference:+.1f}" in words
    console = Console(record=True, width=100)
    print_summary(report, console)
    told = console.export_text()
    assert "gsm8k: mean of retrieval" in told
    assert "gsm8k: agreement with scores" in told
    assert "gsm8k: by rule, 8 samples" in told
    assert "gsm8k: search guided by prm" in told
    assert re.search(r"3 samples +180\.0 +62\.5 +- +-", told), "without `rank_by` samples are chosen by votes alone"
    redi_row = next(row for row in report["arms"] if row["name"] == "redi" and row["benchmark"] == "gsm8k")
    sentences = [line for line in findings(report) if line.startswith("gsm8k: redi against alpha0")]
    assert [" points " in line for line in sentences] == [True, False], "pass@1, then the score"
    redi_row["pass@1"] = redi_row["difference"]["difference"] = 0.0
    (alone,) = [line for line in findings(report) if line.startswith("gsm8k: redi against alpha0")]
    assert f" of {redi_row['score']['scorer']} (95% interval" in alone, (
        "no answer was right, so that only the score says anything"
    )


def test_funnel_reconciles(run: str) -> None:
    """From problems to pairs in order; every dropped row has a reason, on the page too."""
    report = read_report(run)
    assert [(e["stage"], e["count"]) for e in report["funnel"]] == [
        ("problems", 800),
        ("traces", 3200),
        ("verified", 3200),
        ("positives", 725),
        ("pairs", 520),
    ]
    positives, pairs = report["funnel"][3:]
    assert positives["count"] + sum(positives["dropped"].values()) == 800
    assert pairs["count"] + sum(pairs["dropped"].values()) == positives["count"]
    words = " ".join(page(run).words)
    for entry in report["funnel"]:
        for reason in (*entry["dropped"], *entry["rejected"]):
            assert f"- {reason}" in words  # the figure
            assert words.count(reason) >= 2  # and the table


def test_page_is_self_contained_and_hostile_text_stays_text(run: str) -> None:
    """No script, no link out, no handler; what models and data wrote arrives as text, with its markup visible."""
    found = page(run)
    assert not {"script", "iframe", "img", "link", "object", "base", "form"} & set(found.tags)
    for name, value in found.attributes:
        assert not name.startswith("on")
        if name in ("href", "src", "xlink:href"):
            assert (value or "").startswith("#")
    words = "".join(found.words)
    assert "<script>alert(1)</script>" in words
    assert "- <b>too long</b>" in words
    assert not any("display:none" in (value or "") for _, value in found.attributes)
    text = (Path(run) / "report" / "index.html").read_text()
    assert "url(http" not in text
    assert "38,000 characters left out" in text


def test_every_figure_is_there(run: str) -> None:
    """Inline on the page with distinct ids inside, and as PNG files."""
    found = page(run)
    pictures = sorted(path.name for path in (Path(run) / "report" / "figures").glob("*.png"))
    assert pictures == [
        *("funnel.png", "graph.png", "scores.png"),
        *("training_base.png", "training_pairs_from_sft.png", "training_sft.png"),
    ]
    words = " ".join(found.words)
    for title in (
        "Development accuracy",
        "Loss",
        "Chosen log-prob",
        "Rejected log-prob",
        "Margin",
        "Gradient norm",
        "Update norm",
        "Learning rate",
    ):
        assert title in words
    clips = [
        value
        for name, value in found.attributes
        if name == "id" and value and value.startswith("p") and len(value) == 11
    ]
    assert len(clips) == len(set(clips)) > 10


def test_what_is_measured_now_and_then_is_no_gap(run: str) -> None:
    """Development accuracy has a point where it was measured, and its last value; the base model and SFT have none."""
    report = read_report(run)
    assert report["training"]["alpha0"]["last"]["dev_accuracy"] == pytest.approx(0.8)
    assert report["training"]["symmetric"]["last"]["dev_accuracy"] == 0
    assert "dev_accuracy" not in report["training"]["sft"]["last"]
    assert not [note for note in report["notes"] if "dev_accuracy" in note]


def test_samples_configs_and_versions_are_shown(run: str) -> None:
    words = " ".join(page(run).words)
    for expected in (
        "correct",
        "wrong",
        "no answer",
        "timeout",
        "3 + 4 * 2 - 7",
        "Resolved config",
        "alpha: 0.8",
        "pyarrow",
    ):
        assert expected in words
    assert "1,859" in words
    assert "Training of symmetric ended early: stopped_by_guard." in read_report(run)["notes"]
    assert "Training of symmetric: 10 steps with non-finite loss." in read_report(run)["notes"]


def test_report_is_repeatable(run: str, tmp_path: Path) -> None:
    """The same run, moved elsewhere, gives the same numbers and the same figures."""
    before = read_report(run), [value for name, value in page(run).attributes if name == "d"]
    moved = Path(run).rename(Path(run).with_name("moved"))
    try:
        build_report(str(moved))
        after = read_report(str(moved)), [value for name, value in page(str(moved)).attributes if name == "d"]
    finally:
        moved.rename(run)
    assert {**after[0], "run": "demo"} == before[0]
    assert after[1] == before[1]


@pytest.mark.parametrize("parts", [(), ("data",), ("data", "sft"), ("eval",)])
def test_unfinished_runs_say_what_is_missing(tmp_path: Path, parts: tuple[str, ...]) -> None:
    """A run with only a config, data, one training stage, or evaluations without training: a page, never a crash."""
    run = str(tmp_path / "half")
    write_bytes(join(run, "config.yaml"), yaml.safe_dump(CONFIG).encode())
    if "data" in parts:
        write_data_stages(run)
    if "sft" in parts:
        write_training(run, "sft", steps=1)
    if "eval" in parts:
        write_evaluation(run, "base", {"arithmetic": 1}, num_samples=1)
    build_report(run)
    report, words = read_report(run), " ".join(page(run).words)
    assert "Training of redi: not run." in report["notes"]
    assert "Training of redi: not run." in words
    assert ("Stage curated: not run." in report["notes"]) == ("data" not in parts)
    assert ("Training of sft: not run." in report["notes"]) == ("sft" not in parts)
    print_summary(report, Console(file=io.StringIO()))


def test_benchmarks_that_nobody_names_are_not_missed(tmp_path: Path) -> None:
    run = str(tmp_path / "training-only")
    write_bytes(join(run, "config.yaml"), yaml.safe_dump({**CONFIG, "evaluate": {"benchmarks": []}}).encode())
    write_data_stages(run)
    build_report(run)
    notes = read_report(run)["notes"]
    assert "Training of redi: not run." in notes
    assert not any("Evaluation" in note for note in notes), notes


def test_an_early_end_is_told_with_its_reason(tmp_path: Path) -> None:
    run = str(tmp_path / "stopped")
    write_bytes(join(run, "config.yaml"), yaml.safe_dump(CONFIG).encode())
    facts = {"status": "stopped_by_guard", "reason": "collapse: accuracy 0.9 -> 0.2", "steps": 30, "total_steps": 100}
    Stage(run, "checkpoints/redi", {}, {}).publish(facts=facts, seconds=1.0)
    build_report(run)
    why = "stopped_by_guard (collapse: accuracy 0.9 -> 0.2)"
    told = f"Training of redi ended early: {why}. The weights are those of step 30 of 100."
    assert told in read_report(run)["notes"]


def test_a_training_that_was_cut_off_has_begun(tmp_path: Path) -> None:
    """Also one that came to a loss that is not finite: nothing of it is published but its metrics."""
    run = str(tmp_path / "cut")
    write_bytes(join(run, "config.yaml"), yaml.safe_dump(CONFIG).encode())
    write_bytes(join(run, "checkpoints", "redi", "0123abcd", "metrics.jsonl"), b'{"step": 0, "loss": 1.0}')
    build_report(run)
    notes = "\n".join(read_report(run)["notes"])
    assert "Training of redi: begun, but not finished" in notes
    assert "Training of alpha0: not run." in notes


def test_damaged_files_are_notes(tmp_path: Path) -> None:
    run = str(tmp_path / "damaged")
    write_run(run, {"arithmetic": 5})
    write_bytes(join(run, "traces", "manifest.json"), b'{"stage": ')
    next((Path(run) / "curated").glob("*/pairs/*.parquet")).write_bytes(b"PAR1, and no more")
    write_json(join(run, "verified", "manifest.json"), {"stage": "verified"})
    scores = '{"benchmarks": [{"name": "arithmetic"}], "samples": [{"completion": "no more than this"}, 7]}'
    next((Path(run) / "eval" / "redi").glob("*/report.json")).write_text(scores)
    old = json.loads((Path(run) / "eval" / "sft" / "manifest.json").read_text())
    write_json(join(run, "eval", "sft", "manifest.json"), {**old, "inputs": {"checkpoint": "another"}})
    metrics = next((Path(run) / "checkpoints" / "redi").glob("*/metrics.jsonl"))
    metrics.write_text(
        metrics.read_text()[:-30] + '\n[1]\n{"loss": 1}\n{"step": 7, "loss": NaN}\n{"step": 8, "loss": 1e400}'
    )
    build_report(run)
    notes = "\n".join(read_report(run)["notes"])
    for expected in (
        "traces/manifest.json: cannot be read",
        "pairs: cannot be read",
        "verified/manifest.json: cannot be read",
        "3 lines are no training",
        "The scores of sft are those of an earlier checkpoint",
    ):
        assert expected in notes
    assert "Evaluation of redi: not run." in notes
    assert "no more than this" in " ".join(page(run).words)
    assert "redi: 2 steps with non-finite loss" in notes


def test_no_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no run here"):
        build_report(str(tmp_path / "nothing"))


def test_terminal_summary(run: str) -> None:
    """The table in the terminal has every arm with its score, and the plain words about the control."""
    stream = io.StringIO()
    report = read_report(run)
    print_summary(report, Console(file=stream, width=80))
    text = " ".join(stream.getvalue().split())
    for row in report["arms"]:
        assert f"{100 * row['pass@1']:.1f}" in text
    assert "symmetric against alpha0" in text
    assert "a clear loss" in text
