"""Trackers get every step of a run and its resumption, and can neither stop a run in its middle nor fail it late."""

from __future__ import annotations

import importlib.util
import json
import logging
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from redi_ray.train.monitors import Monitors, read_metrics
from redi_ray.train.trackers import TrackerError, flat, require_trackers

CONFIG = {"objective": {"name": "redi", "alpha": 0.8}, "settings": {"guard": {"window": 20}, "max_steps": None}}


def installed(name: str) -> Any:
    return pytest.importorskip(name, reason=f"{name} is not installed: pip install redi_ray[trackers]")


def record(folder: Path, steps: range, **options: Any) -> Monitors:
    monitors = Monitors(folder, run_name="train redi", config=CONFIG, **options)
    monitors.start(steps.start)
    for step in steps:
        monitors.log(step, {"loss": 10.0 - step, "own_metric": 1.0, "grad_norm": float("nan")})
    return monitors


def resumed(folder: Path, name: str) -> None:
    """Eight steps, then again from a checkpoint of five."""
    record(folder, range(8), trackers=[name]).close(failed=True)
    record(folder, range(5, 10), trackers=[name]).close()


def test_tensorboard_gets_the_numbers(tmp_path: Path) -> None:
    resumed(tmp_path, "tensorboard")
    events = b"".join(path.read_bytes() for path in (tmp_path / "tensorboard").iterdir())
    assert b"train/own_metric" in events


def test_mlflow_run_goes_on_after_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database in a file: one run for two attempts, each step once, settings by dotted names; another folder's run of
    the same name is another run."""
    mlflow = installed("mlflow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    resumed(tmp_path / "one", "mlflow")
    record(tmp_path / "two", range(2), trackers=["mlflow"]).close(failed=True)
    client = mlflow.MlflowClient()
    runs = {run.info.status: run for run in mlflow.search_runs(output_format="list")}
    assert set(runs) == {"FINISHED", "FAILED"}
    run = runs["FINISHED"]
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(step, 10.0 - step) for step in range(10)]
    assert run.data.params["objective.alpha"] == "0.8"
    assert run.data.params["settings.guard.window"] == "20"
    assert run.info.run_name == "train redi"
    assert not client.get_metric_history(run.info.run_id, "grad_norm")

    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    record(tmp_path / "three", range(2), trackers=["mlflow"]).close()
    assert (tmp_path / "three" / "mlflow.db").stat().st_size


def history_of(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run ids and history rows of an offline wandb file: protocol buffers in LevelDB's log format, after 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    content, position, parts, run_id = path.read_bytes(), 7, b"", ""
    while position + 7 <= len(content):
        if 32768 - position % 32768 < 7:  # a block's end that holds no header is padding
            position += 32768 - position % 32768
            continue
        _, size, kind = struct.unpack_from("<IHB", content, position)
        parts += content[position + 7 : position + 7 + size]
        position += 7 + size
        if kind in (1, 4):  # a whole record, or the last part of one
            message = wandb_internal_pb2.Record.FromString(parts)
            parts = b""
            run_id = message.run.run_id or run_id
            if message.WhichOneof("record_type") == "history":
                items = message.history.item
                yield run_id, {item.key or item.nested_key[0]: json.loads(item.value_json) for item in items}


def test_wandb_run_goes_on_after_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline: two attempts under one run id, which is not that of another folder's run of the same name."""
    installed("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    resumed(tmp_path / "one", "wandb")
    record(tmp_path / "two", range(2), trackers=["wandb"]).close()
    attempts = sorted((tmp_path / "one" / "wandb").glob("offline-run-*/run-*.wandb"))
    rows = [[*history_of(path)] for path in attempts]
    assert [[(row["_step"], row["loss"]) for _, row in of] for of in rows] == [
        [(step, 10.0 - step) for step in steps] for steps in (range(8), range(5, 10))
    ]
    assert all("own_metric" in row and "grad_norm" not in row for of in rows for _, row in of)
    others = [*history_of(next((tmp_path / "two" / "wandb").glob("offline-run-*/run-*.wandb")))]
    assert len({run_id for of in rows for run_id, _ in of}) == 1
    assert len({run_id for of in [*rows, others] for run_id, _ in of}) == 2


def test_trackers_are_refused_before_anything_starts() -> None:
    with pytest.raises(ValueError, match="tensorboard, wandb, mlflow"):
        require_trackers(["tensorbord"])
    for name in ("wandb", "mlflow"):
        if importlib.util.find_spec(name) is None:
            with pytest.raises(TrackerError, match=r"redi_ray\[trackers\]"):
                require_trackers([name])


def test_a_tracker_that_fails_later_is_given_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run goes on, and so does metrics.jsonl; the warning comes once."""
    monkeypatch.setattr(logging.getLogger("redi_ray"), "propagate", True)
    monitors = record(tmp_path, range(3), trackers=["tensorboard"])
    monitors.open["tensorboard"].writer.close()  # type: ignore[attr-defined]
    monitors.open["tensorboard"].writer = None  # type: ignore[attr-defined]
    for step in (3, 4):
        monitors.log(step, {"loss": 1.0})
    monitors.close()
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [0, 1, 2, 3, 4]
    told = {id(record) for record in caplog.records if "tensorboard is given up at step 3" in record.getMessage()}
    assert len(told) == 1  # as a set: a logger that other tests have set up hands a record on twice


def test_nested_settings_get_dotted_names() -> None:
    assert flat(CONFIG) == {
        "objective.name": "redi",
        "objective.alpha": 0.8,
        "settings.guard.window": 20,
        "settings.max_steps": None,
    }
