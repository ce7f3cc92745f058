"""What users type: help, the resolved config, and mistakes told in one message, with exit code 2, before Ray starts."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
import ray
import yaml
from typer.testing import CliRunner

from redi_ray.cli.app import app
from redi_ray.errors import EXIT_BAD_INPUT, EXIT_DONE, EXIT_FAILED, EXIT_PREEMPTED
from redi_ray.store.lock import RunLock

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


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["run", "--until", "tracs"], "no step named tracs; did you mean traces?; there are problems"),
        (["train", "--arm", "rdei"], "no arm named rdei; did you mean redi?; this config has base, sft"),
        (["evaluate", "--arm", "base"], "evaluate.models leaves out base; it names sft"),
    ],
)
def test_a_name_that_is_no_step_is_refused_before_ray_starts(command: list[str], told: str, tmp_path: Path):
    running = ray.is_initialized()
    name, *options = command
    changes = ["evaluate.models=[sft]", f"storage.root={tmp_path}"]
    result = RUNNER.invoke(app, [name, "configs/demo.yaml", *changes, *options])
    assert result.exit_code == 2
    assert told in result.stderr
    assert ray.is_initialized() == running
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_arm_is_named(tmp_path: Path):
    from redi_ray.config.load import load_config
    from redi_ray.errors import UserError
    from redi_ray.pipeline.runner import Pipeline

    pipeline = Pipeline(load_config("configs/demo.yaml", [f"storage.root={tmp_path}"]))
    with pytest.raises(
        UserError, match=r"no arm named rdei; did you mean redi\?; this config has base, sft, alpha0, redi"
    ):
        pipeline.train(["rdei"])


@pytest.mark.parametrize("command", ["run", "generate", "verify", "curate", "train", "evaluate", "tune", "report"])
def test_what_another_driver_writes_is_left_alone(command: str, tmp_path: Path):
    """Every command that writes a run is told who does so already, before Ray starts; looking at it stays free."""
    arguments = ["configs/search_demo.yaml", "name=one", f"storage.root={tmp_path}"]
    held = RunLock(str(tmp_path / "one"))
    held.acquire()
    running = ray.is_initialized()
    refused = RUNNER.invoke(app, [command, *arguments])
    assert refused.exit_code == 2, refused.output
    assert f"one is being written by another driver: {socket.gethostname()}, process {os.getpid()}" in refused.stderr
    assert ray.is_initialized() == running
    assert RUNNER.invoke(app, ["config", *arguments]).exit_code == 0
    held.check()
    held.release()
    assert list(tmp_path.iterdir()) == []


def test_verify_of_files_locks_its_folder(tmp_path: Path):
    (tmp_path / "x.jsonl").write_text(json.dumps({"answer": "1", "completion": "1"}))
    held = RunLock(str(tmp_path / "out"))
    held.acquire()
    refused = RUNNER.invoke(app, ["verify", "--traces", str(tmp_path / "x.jsonl"), "--out", str(tmp_path / "out")])
    held.release()
    assert refused.exit_code == 2
    assert "out is being written by another driver" in refused.stderr
    assert not (tmp_path / "out").exists()


def test_help_has_the_exit_codes():
    shown = " ".join(RUNNER.invoke(app, ["--help"]).output.split())
    for code in (EXIT_DONE, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_PREEMPTED):
        assert f" {code} " in shown
