"""`redi-ray init` writes a config that is right, tells what it guessed, and overwrites nothing."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from starting_data import FIVE, gsm8k_rows, write_jsonl
from typer.testing import CliRunner

from redi_ray.cli.app import app
from redi_ray.cli.init import name_of
from redi_ray.config.import_parts import WrittenCalls
from redi_ray.config.load import load_config, parse_config
from redi_ray.config.yaml_text import read_yaml
from redi_ray.errors import EXIT_BAD_INPUT
from redi_ray.pipeline.standard import graph_of
from redi_ray.starter.fitting import FITTING
from redi_ray.starter.guess import ROLES

RUNNER = CliRunner()


def init(*arguments: str) -> str:
    found = RUNNER.invoke(app, ["init", *arguments], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.output


@pytest.mark.parametrize("name", FIVE)
def test_what_is_written_is_a_config_that_graph_and_plan_take(name: str, tmp_path: Path) -> None:
    data, config = FIVE[name](tmp_path), tmp_path / "first.yaml"
    told = init(str(data), "--out", str(config), "--model", "scratch")
    assert f"redi-ray run   {config}" in told
    assert "24 of 24 rows can be used" in told
    for command in ("graph", "plan"):
        found = RUNNER.invoke(app, [command, str(config), f"storage.root={tmp_path}/runs"], catch_exceptions=False)
        assert found.exit_code == 0, found.output
    assert all(not line.rstrip().endswith(("#", "# ")) for line in config.read_text().splitlines())


def test_calls_of_tools_are_written_into_texts(tmp_path: Path) -> None:
    init(str(FIVE["chats"](tmp_path)), "--out", str(tmp_path / "x.yaml"))
    step = load_config(str(tmp_path / "x.yaml")).imports["answers"]
    assert step.calls is not None
    assert step.calls.form == "<tool_call>\n{call}\n</tool_call>"


def test_sampling_is_one_of_two_ways_for_worked_solutions(tmp_path: Path) -> None:
    data = str(FIVE["gsm8k"](tmp_path))
    assert "# Another way, `--recipe sample`" in _written(init, data, tmp_path / "a.yaml")
    _written(init, data, tmp_path / "b.yaml", "--recipe", "sample")
    config = load_config(str(tmp_path / "b.yaml"))
    assert config.verify.answers.gold_extract == ["after:####"]
    assert config.teacher_is_base
    assert [step.kind for step in graph_of(config)][:3] == ["problems", "base", "sample"]


def _written(call: object, data: str, path: Path, *more: str) -> str:
    init(data, "--out", str(path), *more)
    return path.read_text()


def test_lengths_are_those_of_the_data_and_within_the_models_reach(tmp_path: Path) -> None:
    """A tokenizer of one byte a token: the texts of 60 and 1,000 bytes need 2,048 tokens, and the model reaches over 512."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text(json.dumps({"max_position_embeddings": 512}))
    rows = [{"prompt": "q" * 60, "completion": "a" * 1000}] * 4
    data = str(write_jsonl(tmp_path / "x.jsonl", rows))
    for model, length in ((str(tmp_path / "model"), 512), ("some/model", 1024)):
        init(data, "--out", str(tmp_path / "x.yaml"), "--model", model, "--force")
        config = load_config(str(tmp_path / "x.yaml"))
        assert config.sft.train.max_length == length
        assert config.sft.train.batch_size == 1  # of four rows: there are steps
        assert config.sft.train.on_too_long == "drop"


def test_names_of_columns_and_files_do_no_harm(tmp_path: Path) -> None:
    """Line breaks, quotes and control characters in names and values stay inside their comment, or their quotes."""
    odd = 'ans"wer\nsteps: {x: 1}'
    rows = [{"prompt": "1+1?\x1b[31m\nname: other", odd: "2", "completion": "a'b: {c"}] * 4
    data = str(write_jsonl(tmp_path / "a b: 'c'.jsonl", rows))
    told = init(data, "--out", str(tmp_path / "x.yaml"), "--column", "problem=prompt", "--column", f"trace={odd}")
    assert "\x1b" not in told
    config = load_config(str(tmp_path / "x.yaml"))
    assert config.name == "x"
    assert config.imports["answers"].columns.completion == odd
    assert config.imports["answers"].source.paths == [data]  # type: ignore[union-attr]


def test_the_commands_that_are_printed_can_be_pasted(tmp_path: Path) -> None:
    config = str(tmp_path / "my data #1.yaml")
    told = init(str(FIVE["gsm8k"](tmp_path)), "--out", config)
    (line,) = (line for line in told.splitlines() if line.strip().startswith("redi-ray graph"))
    assert shlex.split(line, comments=True)[:3] == ["redi-ray", "graph", config]


def test_nothing_is_overwritten_and_mistakes_are_told(tmp_path: Path) -> None:
    data, config = str(write_jsonl(tmp_path / "x.jsonl", gsm8k_rows())), tmp_path / "x.yaml"
    config.write_text("mine")
    for arguments, told in (
        ([data, "--out", str(config)], "x.yaml is there already"),
        (
            [data, "--out", str(tmp_path / "y.yaml"), "--recipe", "kto"],
            "kto is for other data; what fits these data: sft, s",
        ),
        ([data, "--out", str(tmp_path / "y.yaml"), "--recipe", "nothing"], "there is no nothing"),
        ([data, "--recipe", "cdpo"], "takes no DATA: redi-ray recipes cdpo --copy FILE"),
        ([data, "--out", str(tmp_path / "y.yaml"), "--model", "./nowhere"], "there is no such folder"),
        ([data, "--out", str(tmp_path / "y.yaml"), "--column", "problem"], "write ROLE=COLUMN"),
        ([data, "--out", str(tmp_path / "y.yaml"), "--recipe", "sample", "--model", "scratch"], "nothing to sample"),
        ([], "name DATA"),
    ):
        found = RUNNER.invoke(app, ["init", *arguments])
        assert (found.exit_code, told in found.stderr) == (EXIT_BAD_INPUT, True), found.stderr
    assert config.read_text() == "mine"
    assert not (tmp_path / "y.yaml").exists()
    init(data, "--out", str(config), "--force")
    assert load_config(str(config)).name == "x"


def test_on_a_terminal_what_is_open_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redi_ray.cli.init._is_asked", lambda: True)
    data, config = str(FIVE["gsm8k"](tmp_path)), str(tmp_path / "x.yaml")
    told = RUNNER.invoke(
        app, ["init", data, "--out", config], input="sample\nsome/model\n", catch_exceptions=False
    ).output
    assert "recipe (sft, sample) [sft]" in told
    assert load_config(config).generate.kind == "vllm"
    assert load_config(config).model.init.path == "some/model"


GUIDE = (Path(__file__).resolve().parents[2] / "docs/guide/first_config.md").read_text()


def test_the_guide_shows_what_there_is() -> None:
    """Its table has every recipe, its piece of a config is one, its output is what the command prints."""
    table = "\n".join(line.rpartition("|")[0].rpartition("|")[2] for line in GUIDE.splitlines() if line.startswith("|"))
    assert set(re.findall("`(\\w+)`", table)) == set(FITTING)
    piece = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
    config = parse_config({"name": "x", "model": {"init": {"kind": "scratch"}}, **read_yaml(piece[0])})
    assert config.imports["answers"].calls == WrittenCalls()
    roles = re.findall(r"with the names (problem, .*?)\.\n", GUIDE, re.DOTALL)[0]
    assert set(re.findall(r"\w+", roles)) - {"and"} == set(ROLES)


def test_the_guides_output_is_what_the_command_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FIVE["chats"](tmp_path)
    monkeypatch.chdir(tmp_path)
    shown = GUIDE.partition("```\nredi-ray init chats.jsonl\n```\n\n```\n")[2].partition("```")[0]
    printed = [line.rstrip() for line in init("chats.jsonl", "--model", "scratch").splitlines()]
    assert printed == [line.rstrip() for line in shown.splitlines()]


def test_a_recipe_without_data_is_copied(tmp_path: Path) -> None:
    init("--recipe", "step_dpo", "--out", str(tmp_path / "x.yaml"))
    assert load_config(str(tmp_path / "x.yaml")).name == "step_dpo"


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("a/b.jsonl.gz", "b"),
        ("s3://bucket/set/", "set"),
        ("openai/gsm8k:test", "gsm8k"),
        ("\u00fc.csv", "first"),
        ("x y.json", "x_y"),
    ],
)
def test_runs_are_named_after_their_data(data: str, name: str) -> None:
    assert name_of(data) == name
