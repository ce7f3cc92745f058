"""`metrics.jsonl` holds every step once, whatever happened in between."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from redi_ray.train.monitors import STEP_METRICS, Monitors, read_metrics


def record(folder: Path, steps: range, **options: object) -> None:
    monitors = Monitors(folder, **options)  # type: ignore[arg-type]
    monitors.start(steps.start)
    for step in steps:
        monitors.log(step, {"loss": float(step), "own_metric": 1.0})
    monitors.close()


def test_steps_are_never_doubled_after_a_resume(tmp_path: Path) -> None:
    """A run that got to step 7 and is resumed from a checkpoint of 5 steps leaves 0..9, each once, the later ones new."""
    record(tmp_path, range(8))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "lo')  # killed in the middle of a line
    record(tmp_path, range(5, 10))
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(10))


def test_lines_hold_every_watched_metric_and_valid_json(tmp_path: Path) -> None:
    monitors = Monitors(tmp_path)
    monitors.start(0)
    monitors.log(0, {"loss": math.nan, "grad_norm": math.inf, "chosen_logp": -1.0, "own_metric": 2.0})
    monitors.close()

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    line = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=refuse)
    assert set(STEP_METRICS) <= set(line)
    assert (line["loss"], line["grad_norm"], line["chosen_logp"], line["own_metric"]) == (None, None, -1.0, 2.0)


def test_other_ranks_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monitors = Monitors()
    monitors.start(0)
    monitors.log(0, {"loss": 1.0})
    monitors.sync()
    monitors.close()
    assert not list(tmp_path.iterdir())
