"""What users type: help, the resolved config, and mistakes told in one message, with exit code 2, before Ray starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import ray
import yaml
from typer.testing import CliRunner

from redi_ray.cli import app

RUNNER = CliRunner()


def test_config_prints_every_field_and_the_schema():
    shown = RUNNER.invoke(app, ["config", "configs/demo.yaml", "sft.train.epochs=3"])
    resolved = yaml.safe_load(shown.output)
    assert resolved["sft"]["train"]["epochs"] == 3
    assert resolved["sft"]["train"]["adam_beta2"] == 0.999
    schema = json.loads(RUNNER.invoke(app, ["config", "--schema"]).output)
    assert set(resolved) == set(schema["properties"])


def test_help_names_every_command():
    shown = RUNNER.invoke(app, ["--help"]).output
    for command in ("run", "generate", "verify", "curate", "train", "evaluate", "report", "config", "plan"):
        assert command in shown


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["sft.train.epoch=1"], "unknown key. Did you mean `epochs`?"),
        (["generate.model=./no/such/model"], "generate.model: ./no/such/model holds no config.json"),
        (
            ["problems.source={kind: files, paths: [/no/such.jsonl]}", "evaluate.benchmarks=[]", "model.init={kind: scratch}",
             "generate={kind: vllm, model: ./m}"],
            "/no/such.jsonl is not there",
        ),
        (["evaluate.benchmarks=[{name: math500, path: /no/such.json}]"], "/no/such.json"),
        (["model.init={kind: pretrained, path: ./nowhere}"], "model.init.path: ./nowhere holds no config.json"),
    ],
)  # fmt: skip
def test_mistakes_end_with_one_message_before_ray_starts(overrides: list[str], told: str, tmp_path: Path):
    running = ray.is_initialized()
    result = RUNNER.invoke(app, ["run", "configs/demo.yaml", *overrides, f"storage.root={tmp_path}"])
    assert result.exit_code == 2
    assert told in result.stderr
    assert "Traceback" not in result.output
    assert ray.is_initialized() == running
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_arm_is_named(tmp_path: Path):
    from redi_ray.config.load import load_config
    from redi_ray.errors import UserError
    from redi_ray.pipeline import Pipeline

    pipeline = Pipeline(load_config("configs/demo.yaml", [f"storage.root={tmp_path}"]))
    with pytest.raises(UserError, match="no arm named rdei; this config has base, sft, alpha0, redi"):
        pipeline.train(["rdei"])
