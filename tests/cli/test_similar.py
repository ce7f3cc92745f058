"""Semantic duplicates and diversity from a config to the command that shows them, with a real run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from redi_ray.cli.app import app
from redi_ray.config.load import load_config
from redi_ray.store import storage

GOODS = ("eggs", "lamps", "ropes", "coins", "bricks", "tents", "boats", "flutes")
TEXTS = [f"A shop in the old harbour sold {n + 3} {thing} on {thing}day. How many?" for n, thing in enumerate(GOODS)]
SAME = "In the old harbour a shop, on eggsday, sold three eggs. How many?"


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_from_the_config_to_what_is_shown(tmp_path: Path):
    rows = [
        {"problem": text, "answer": number, "completion": rf"so \boxed{{{number}}}"}
        for text, number in [*((text, n + 3) for n, text in enumerate(TEXTS)), (SAME, 3)]
    ]
    (tmp_path / "traces.jsonl").write_text("\n".join(map(json.dumps, rows)))
    size = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "num_kv_heads": 1, "intermediate_size": 16}
    config = {
        "name": "similar",
        "storage": {"root": str(tmp_path / "runs")},
        "problems": {
            "source": {
                "kind": "files",
                "paths": [str(tmp_path / "traces.jsonl")],
                "columns": {"completion": "completion"},
            }
        },
        "generate": {"kind": "import"},
        "model": {"init": {"kind": "scratch", "vocab_size": 300, "architecture": size}, "prompt": {"prefix": ""}},
        "curate": {"duplicates": {"near": None, "semantic": {"threshold": 0.35}}, "diversity": {"problems": 5}},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    run = CliRunner()
    done = run.invoke(app, ["curate", str(tmp_path / "config.yaml")])
    assert not done.exit_code, done.output
    made = storage.read_json(f"{load_config(str(tmp_path / 'config.yaml')).run_uri}/curated/manifest.json")
    assert made["dropped"] == {"semantic_duplicate": 1, "not_diverse": 3}
    assert set(made["facts"]["diversity"]) == {"selected", "random"}
    shown = run.invoke(app, ["similar", str(tmp_path / "config.yaml"), "--json"])
    assert not shown.exit_code, shown.output
    pairs = [json.loads(line) for line in shown.output.splitlines()]
    assert [{row["problem"], row["other"]} for row in pairs if row["dropped"]] == [{SAME, TEXTS[0]}]
    told = run.invoke(app, ["similar", str(tmp_path / "config.yaml"), "--limit", "1"]).output
    assert SAME in told
    assert "dropped" in told
    refused = run.invoke(app, ["similar", str(tmp_path / "config.yaml"), "--step", "verified"])
    assert refused.exit_code
