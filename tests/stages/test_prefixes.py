"""Traces without the forced prefix end a run before anything is spent on them, in words that say what to set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from redi_ray.config.load import load_config
from redi_ray.config.student import Architecture
from redi_ray.data.sources.readers import DataError
from redi_ray.modeling.scratch import save_scratch_model
from redi_ray.modeling.tokenizer import train_bpe_tokenizer
from redi_ray.pipeline.runner import Pipeline

TINY = Architecture(hidden_size=32, num_layers=1, num_heads=2, intermediate_size=32)
PLAIN, THOUGHT, INSIDE = "2 + 2 = 4\nA: 4", "<think>\nhm\n</think>\n\nA: 4", "hm\n</think>\n\nA: 4"


def pipeline(folder: Path, completions: list[str], *overrides: str) -> Pipeline:
    rows = [
        {"problem": f"What is 2 + 2, number {n}?", "answer": "4", "text": text} for n, text in enumerate(completions)
    ]
    folder.mkdir(exist_ok=True)
    (folder / "traces.jsonl").write_text("\n".join(map(json.dumps, rows)))
    save_scratch_model(TINY, train_bpe_tokenizer([PLAIN, THOUGHT] * 10, 300), folder / "model")
    source: dict[str, Any] = {"kind": "files", "paths": [f"{folder}/traces.jsonl"], "columns": {"completion": "text"}}
    told = {
        "problems.source": source,
        "generate": {"kind": "import"},
        "model.init": {"kind": "pretrained", "path": f"{folder}/model"},
        "verify.answers.extract": ["after:A:"],
        "evaluate.benchmarks": [],
        "storage.root": f"{folder}/runs",
    }
    given = [f"{name}={json.dumps(value)}" for name, value in told.items()]
    return Pipeline(load_config("configs/demo.yaml", [*given, *overrides]))


@pytest.mark.usefixtures("ray_session")
def test_plain_traces_are_refused_before_they_are_verified(tmp_path: Path):
    with pytest.raises(DataError, match=r"50 of 50 traces .*one begins .2 \+ 2 = 4.*Set model.prompt.prefix"):
        pipeline(tmp_path, [PLAIN] * 50).curated()
    assert not list((tmp_path / "runs").rglob("verified/*/manifest.json"))
    assert pipeline(tmp_path, [PLAIN] * 50, 'model.prompt.prefix=""').curated().counts["positives"] == 50


@pytest.mark.usefixtures("ray_session")
def test_a_few_with_the_prefix_make_no_data_set_of_the_rest(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with pytest.raises(DataError, match="46 of 50 chosen traces do not begin"):
        pipeline(tmp_path / "hardly", [PLAIN] * 46 + [THOUGHT] * 2 + [INSIDE] * 2).curated()
    with caplog.at_level("WARNING", logger="redi_ray"):
        curated = pipeline(tmp_path / "mostly", [PLAIN] * 10 + [THOUGHT] * 20 + [INSIDE] * 20).curated()
    assert "10 of 50 chosen traces do not begin" in caplog.text
    assert curated.counts["positives"] == 40
    assert curated.dropped == {"chosen_without_prefix": 10}
