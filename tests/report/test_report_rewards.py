"""Columns of numbers against verdicts, on the page and in report.json; a reward model is no arm that waits to be evaluated."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from made_run import CONFIG, write_data_stages, write_evaluation, write_training

from redi_ray.report.page import build_report
from redi_ray.store.manifests import Stage
from redi_ray.store.storage import join, write_bytes

STEPS = {
    "rm": {"do": "train", "from": "sft", "on": "curated", "objective": {"name": "outcome_bce"}},
    "value": {"do": "score", "of": "verified", "scorer": {"name": "reward", "model": "rm"}},
    "length": {"do": "score", "of": "verified", "scorer": {"name": "length"}},
}
BINS = [{"n": 3, "mean": 0.1, "right": 0.0}, {"n": 5, "mean": 0.9, "right": 0.8}]


def test_columns_against_verdicts(tmp_path: Path) -> None:
    uri = str(tmp_path / "demo")
    write_bytes(join(uri, "config.yaml"), yaml.safe_dump({**CONFIG, "steps": STEPS}).encode())
    write_data_stages(uri)
    told = {
        "right": 4,
        "wrong": 4,
        "auc": 0.875,
        "calibration": {"brier": 0.11, "ece": 0.1, "accuracy": 0.9, "bins": BINS},
    }
    Stage(uri, "steps/value/column", {}, {}).publish(counts={"in": 8}, facts={"model": "rm", "against_verdicts": told})
    plain = {"right": 4, "wrong": 4, "auc": 0.5, "calibration": None}
    Stage(uri, "steps/length/column", {}, {}).publish(
        counts={"in": 8}, facts={"scorer": "length", "against_verdicts": plain}
    )
    for model in ("sft", "rm"):
        write_training(uri, model, steps=10)
    write_evaluation(uri, "sft", {"arithmetic": 20})
    paths = build_report(uri)
    report = json.loads(Path(paths.json).read_text())
    assert report["rewards"] == [
        {"name": "value", "of": "verified", "model": "rm", **told},
        {"name": "length", "of": "verified", "model": "length", **plain},
    ]
    assert "Evaluation of rm: not run." not in report["notes"]
    page = Path(paths.html).read_text()
    for shown in ("Columns against verdicts", "<b>0.875</b>", "0.110", "value: calibration", "<td>80.0</td>"):
        assert shown in page
