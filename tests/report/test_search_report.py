"""What a search publishes is what the page, the JSON and the figures show."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import yaml
from made_records import ALPHA, RATE, made_records

from redi_ray.config.load import load_config
from redi_ray.pipeline.runner import Pipeline
from redi_ray.report.page import build_report
from redi_ray.search.outcome import Outcome, publish
from redi_ray.search.plan import SearchPlan
from redi_ray.search.records import TrialRecord, write_record


def published(tmp_path: Path, change: dict | None = None, kept: int = 16) -> tuple[str, Outcome, list[TrialRecord]]:
    """A search whose trials have the made-up results, under their real keys."""
    grid = f"{{{ALPHA}: {{grid: [0.0, 0.5, 0.8, 1.0]}}, {RATE}: {{grid: [3e-5, 1e-4, 3e-4, 1e-3]}}}}"
    told = ["redi.train.probe={every: 5}", f"search={{space: {grid}}}", f"storage.root={tmp_path}"]
    plan = SearchPlan(load_config("configs/demo.yaml", told))
    specs = sorted(plan.trials(), key=lambda spec: spec.number)
    records = [replace(r, key=s.key) for r, s in zip(made_records(), specs, strict=True)][:kept]
    records[0] = replace(records[0], **(change or {}))
    assert [record.values for record in records] == [spec.values for spec in specs][:kept]
    uri = Pipeline(plan.config).run.uri
    for record in records:
        write_record(uri, record)
    return uri, publish(plan, records, time.monotonic()), records


def test_the_winner_is_a_config_to_run_and_every_trial_is_in_the_table(tmp_path: Path):
    _, outcome, records = published(tmp_path)
    config = load_config(outcome.winner_uri)
    assert config == outcome.winner
    assert config.search is None
    assert config.redi.arms["redi"].objective.alpha == 1.0
    assert config.redi.settings("redi").learning_rate == 3e-5
    assert yaml.safe_load(Path(outcome.winner_uri).read_text())["name"] == "demo"
    table = pq.read_table(f"{outcome.manifest.uri}/trials.parquet")
    assert table["trial"].to_pylist() == [record.key for record in records]
    assert outcome.manifest.counts == {"in": 16, "out": 16}
    assert outcome.manifest.facts["collapsed"] == 2


def test_trials_that_did_not_end_are_counted_by_reason(tmp_path: Path):
    change = {"status": "failed", "reason": "TrainError: no space left", "value": None, "sem": None}
    _, outcome, _ = published(tmp_path, change, kept=12)
    assert outcome.manifest.counts == {"in": 16, "out": 11}
    assert (outcome.manifest.dropped, outcome.manifest.rejected) == ({"not_started": 4}, {"failed": 1})


def test_the_report_shows_the_search(tmp_path: Path):
    uri, outcome, records = published(tmp_path, {"reason": "<script>alert(1)</script>"})
    paths = build_report(uri)
    page, data = Path(paths.html).read_text(), json.loads(Path(paths.json).read_text())["search"]
    assert 'id="search"' in page
    assert page.count("collapsed") > 4
    assert "<script>" not in page
    assert outcome.winner_uri in page
    assert data["winner"]["values"] == {ALPHA: 1.0, RATE: 3e-5}
    assert len(data["trials"]) == 16
    assert [item["path"] for item in data["importance"]] == [ALPHA, RATE]
    assert {tuple(term["paths"]) for term in data["effects"]["main"]} == {(ALPHA,), (RATE,)}
    assert "Effects of the parameters" in page
    assert data["cost"]["steps"] == sum(record.steps for record in records)
    pictures = {Path(picture).name for picture in paths.figures}
    assert {"search_values.png", "search_curves.png", "search_effects.png"} <= pictures


def test_a_damaged_search_is_a_note(tmp_path: Path):
    uri, _, records = published(tmp_path)
    Path(f"{uri}/search/trials/{records[3].key}.json").unlink()
    page = Path(build_report(uri).html).read_text()
    assert "1 trials have lost their records" in page
    Path(f"{uri}/search/manifest.json").write_text("{")
    page = Path(build_report(uri).html).read_text()
    assert "search: cannot be read" in page
    assert 'id="search"' not in page
