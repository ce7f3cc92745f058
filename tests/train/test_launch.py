"""Training on Ray Train: equal to plain torchrun bit for bit, through a killed worker too."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from dataclasses import fields
from pathlib import Path

import psutil
import pytest
from recovery import tell_recovery
from tiny_runs import PLAIN_SETTINGS, TOTAL_STEPS, assert_same_run
from transformers import AutoModelForCausalLM

from redi_ray.config.objectives import RediObjective
from redi_ray.config.resources import TrainerSettings
from redi_ray.config.training import ModelOverrides, TrainSettings
from redi_ray.errors import EXIT_BAD_INPUT
from redi_ray.train.monitors import read_metrics
from redi_ray.train.on_ray.launch import TrainOutcome, TrainRefused, launch_training
from redi_ray.train.progress import NonfiniteError

SETTINGS = PLAIN_SETTINGS | {"checkpoint_every": 5}


def launch(inputs: tuple[str, str], out: Path, **changes: object) -> TrainOutcome:
    """changes: of the launch's arguments, or of the trainer's settings."""
    trainer = {"num_workers": 2, "cpus_per_worker": 0.5, "trackers": []}
    names = {field.name for field in fields(TrainerSettings)}
    trainer |= {name: changes.pop(name) for name in names & set(changes)}
    options: dict[str, object] = {
        "model_path": inputs[0],
        "overrides": ModelOverrides(),
        "sequences_uri": inputs[1],
        "objective": RediObjective(),
        "settings": TrainSettings(**SETTINGS),  # type: ignore[arg-type]
        "out_uri": str(out),
        "trainer": TrainerSettings(**trainer),  # type: ignore[arg-type]
    }
    return launch_training(**(options | changes))  # type: ignore[arg-type]


def kill_a_worker_after(lines: int, metrics: Path, killed: list[float]) -> None:
    """`kill -9` one of this test's own training workers once so many steps are on record; the time of it goes to `killed`."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if metrics.exists() and metrics.read_bytes().count(b"\n") >= lines:
            for process in psutil.Process().children(recursive=True):
                if "RayTrainWorker" in " ".join(process.cmdline()):
                    killed.append(time.monotonic())
                    os.kill(process.pid, signal.SIGKILL)
                    return
        time.sleep(0.005)


def test_killed_worker_and_plain_torchrun_agree_bit_for_bit(
    ray_session: None, inputs: tuple[str, str], undisturbed: Path, tmp_path: Path
) -> None:
    """Two Ray workers, one killed in the middle, against two gloo processes without Ray that nobody disturbs."""
    killed: list[float] = []
    killer = threading.Thread(target=kill_a_worker_after, args=(12, tmp_path / "metrics.jsonl", killed))
    killer.start()
    outcome = launch(inputs, tmp_path)
    killer.join()
    tell_recovery("the kill of a worker", since=killed[0])
    assert (outcome.status, outcome.steps) == ("done", TOTAL_STEPS)
    assert_same_run(tmp_path, undisturbed)


def test_outcome_export_and_second_call(ray_session: None, inputs: tuple[str, str], tmp_path: Path) -> None:
    """The export loads, its sums are listed, Ray's own files are gone, and the same call again returns at once."""
    settings = TrainSettings(**(SETTINGS | {"max_steps": 3}))  # type: ignore[arg-type]
    options = {"settings": settings, "num_workers": 1, "trackers": ["tensorboard"], "name": "my-run"}
    outcome = launch(inputs, tmp_path / "out", **options)
    assert outcome.steps == 3
    assert outcome.facts["total_steps"] == 3
    assert outcome.final["loss"] == read_metrics(Path(outcome.metrics_uri))[-1]["loss"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "checkpoints",
        "export",
        "metrics.jsonl",
        "tensorboard",
    ]
    AutoModelForCausalLM.from_pretrained(outcome.export_uri)
    manifest = json.loads((Path(outcome.export_uri) / "manifest.json").read_text())
    assert set(manifest["files"]) == {p.name for p in Path(outcome.export_uri).iterdir()} - {
        "manifest.json",
        "README.md",
    }
    started = time.monotonic()
    assert launch(inputs, tmp_path / "out", **options) == outcome
    assert time.monotonic() - started < 1


def test_what_cannot_work_fails_once_and_clearly(ray_session: None, inputs: tuple[str, str], tmp_path: Path) -> None:
    """Not tried again and again: sequences that are too long, and (before any worker starts) a model that is not there."""
    settings = TrainSettings(**(SETTINGS | {"max_length": 10}))  # type: ignore[arg-type]
    with pytest.raises(TrainRefused, match="longer than max_length = 10") as refused:
        launch(inputs, tmp_path / "out", settings=settings, num_workers=1)
    assert refused.value.exit_code == EXIT_BAD_INPUT
    assert not (tmp_path / "out" / "export").exists()
    with pytest.raises(ValueError, match="no such folder"):
        launch(inputs, tmp_path / "out", model_path=str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match="unknown tracker"):
        launch(inputs, tmp_path / "out", trackers=["tensorbord"])


UNWRITABLE = "\ud800"
"""No text that UTF-8 has (a ValueError): the model card, which rank 0 writes while the others wait for it, fails."""


def test_what_one_rank_refuses_ends_all_and_reaches_the_driver(
    ray_session: None, inputs: tuple[str, str], tmp_path: Path
) -> None:
    """Long before the others would give up waiting (900 s), and told as the worker said it."""
    settings = TrainSettings(**(SETTINGS | {"max_steps": 2}))  # type: ignore[arg-type]
    with pytest.raises(TrainRefused, match=r"surrogates not allowed.*on rank 0 of 2"):
        launch(inputs, tmp_path / "out", settings=settings, name=UNWRITABLE)


@pytest.mark.slow
def test_a_refusal_reaches_the_driver_without_further_attempts(
    ray_session: None, inputs: tuple[str, str], tmp_path: Path
) -> None:
    settings = TrainSettings(**(SETTINGS | {"max_steps": 2}))  # type: ignore[arg-type]
    with pytest.raises(TrainRefused, match=r"surrogates not allowed.*on rank 0 of 2"):
        launch(inputs, tmp_path / "out", settings=settings, name=UNWRITABLE, max_failures=0)


def test_a_step_that_is_not_finite_is_no_result(ray_session: None, inputs: tuple[str, str], tmp_path: Path) -> None:
    settings = TrainSettings(**(SETTINGS | {"learning_rate": 1e30, "max_grad_norm": 0.0}))  # type: ignore[arg-type]
    with pytest.raises(NonfiniteError, match=r"not finite.*no result.*Mend: a lower learning_rate") as ended:
        launch(inputs, tmp_path / "out", settings=settings, num_workers=1)
    assert ended.value.exit_code == EXIT_BAD_INPUT
    assert not (tmp_path / "out" / "export").exists()
