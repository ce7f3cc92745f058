"""`redi-ray verify --traces`: what the user types, the table that comes back, and mistakes told before Ray starts."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from redi_ray.cli.app import app
from redi_ray.cli.verify import read_columns
from redi_ray.config.trace_files import TraceColumns
from redi_ray.store.parquet import read_tables
from redi_ray.store.storage import list_files, read_json

RUNNER = CliRunner()


@pytest.fixture
def traces(test_data: Path, tmp_path: Path) -> Path:
    """60 real GSM8K solutions with their labels, and a broken line."""
    source = test_data / "traces" / "gsm8k_openai_example_model_solutions.jsonl.gz"
    with gzip.open(source, "rt") as file:
        rows = [json.loads(line) for line, _ in zip(file, range(60), strict=False)]
    lines = [json.dumps({"problem_id": f"g{index}", **row}) for index, row in enumerate(rows)]
    path = tmp_path / "solutions.jsonl"
    path.write_text("\n".join([*lines, "{"]))
    return path


def verify(*arguments: object) -> tuple[int, str]:
    result = RUNNER.invoke(app, ["verify", *map(str, arguments)])
    return result.exit_code, result.stdout if result.exit_code == 0 else result.output


def test_real_solutions_against_their_labels(ray_session, traces, tmp_path):
    """Columns and extractors by options; the verdicts agree with the labels; a second call only shows the table again."""
    options = [
        *("--traces", traces, "--out", tmp_path / "out"),
        *("--column", "answer=ground_truth", "--column", "completion=175b_verification.solution"),
        *("--column", "label=175b_verification.is_correct", "--extract", "after:A:", "--gold-extract", "after:A:"),
    ]
    code, shown = verify(*options)
    assert code == 0, shown
    assert "math_verify and label agree on 60 of 60 (100.0%)" in shown
    assert "rejected: 1 unreadable_row" in shown
    assert "61 rows of 1 files in, all accounted for" in shown
    manifest = read_json(str(tmp_path / "out" / "manifest.json"))
    verdicts = [
        value
        for table in read_tables(list_files(str(tmp_path / "out" / "verdicts")), ["verdict"])
        for value in table["verdict"].to_pylist()
    ]
    assert verdicts.count("correct") == manifest["facts"]["verdicts"]["correct"] > 20
    assert f"{verdicts.count('correct')}" in shown
    again = verify(*options)
    assert again == (0, shown)
    assert read_json(str(tmp_path / "out" / "manifest.json")) == manifest


def test_an_optional_column_may_be_none():
    assert read_columns(["trace_id=", "answer=gold"]) == TraceColumns(trace_id=None, answer="gold")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "name a CONFIG, or both --traces and --out"),
        (["--traces", "x.jsonl"], "name a CONFIG, or both --traces and --out"),
        (["configs/demo.yaml", "--traces", "x.jsonl", "--timeout", "0"], "--timeout, --traces: only with"),
        (["--traces", "/no/such.jsonl", "--out", "OUT"], "--traces: /no/such.jsonl is not there"),
        (["--traces", "FILE", "--out", "OUT"], "no answer (column `answer`), no completion (column `completion`); its"),
        (["--traces", "FILE", "--out", "OUT", "--column", "gold=x"], "NAME is one of problem_id, answer, tests"),
        (["--traces", "FILE", "--out", "OUT", "--column", "answer="], "NAME is one of problem_id, answer, tests"),
        (["--traces", "FILE", "--out", "OUT", "--vote", "label"], "no column has it; name one with --column label="),
        (["--traces", "FILE", "--out", "OUT", "--policy", "most"], "policy: Input should be 'all', 'any'"),
        (["--traces", "FILE", "--out", "OUT", "--extract", "box"], "unknown extractor 'box'; use one of"),
        (["--traces", "FILE", "--out", "OUT", "--timeout", "0"], "timeout_seconds must be > 0"),
    ],
)
def test_mistakes_are_told_at_once(options: list[str], told: str, traces: Path, tmp_path: Path):
    places = {"FILE": str(traces), "OUT": str(tmp_path / "out")}
    code, shown = verify(*[places.get(option, option) for option in options])
    assert code == 2
    assert " ".join(told.split()) in " ".join(shown.replace("│", " ").split())
    assert not (tmp_path / "out").exists()
