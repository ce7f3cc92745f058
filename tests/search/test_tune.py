"""`redi-ray tune` with the real components: killed and taken up again, stopped early, chosen, and run as a single experiment.

The world is small: imported traces, random weights, no engine. What is compared is the margin, which such a model has.
"""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
import yaml
from processes import kill_when, run, start
from recovery import recovering

from redi_ray.store.manifests import current_manifest

pytestmark = pytest.mark.timeout(1500)

ALPHA, RATE = "redi.arms.redi.objective.alpha", "redi.train.learning_rate"
GRID = {RATE: {"grid": [1e-4, 3e-4, 1e-3]}}
VARIES = ("uri", "train_seconds", "worker_hours")
"""Columns that tell of the machine and the folder."""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Writes a config with a search section and returns its path."""
    folder = tmp_path_factory.mktemp("search")
    with (folder / "traces.jsonl").open("w") as file:
        for problem in range(80):
            for sample in range(3):
                value = 2 * problem if sample != problem % 3 else 2 * problem + 1 + sample
                row = {"problem_id": f"p{problem}", "problem": f"{problem}+{problem}=?", "answer": str(2 * problem)}
                file.write(json.dumps({**row, "completion": f"<think>\n{sample}</think> \\boxed{{{value}}}"}) + "\n")
    train = {"batch_size": 8, "epochs": 3, "learning_rate": 1e-4, "checkpoint_every": 3}
    common = {
        "problems": {
            "source": {"kind": "files", "paths": [str(folder / "traces.jsonl")], "columns": {"completion": "completion"}},
            "dev": {"share": 0.2},
        },
        "generate": {"kind": "import"},
        "model": {"init": {"kind": "scratch", "vocab_size": 400, "architecture": {"hidden_size": 32, "num_heads": 2}}},
        "sft": {"train": {"batch_size": 16, "epochs": 2, "learning_rate": 1e-3}},
        "redi": {"train": {**train, "probe": {"every": 3, "problems": 8, "max_tokens": 8}}},
        "evaluate": {"benchmarks": []},
        "resources": {"engine": {"device": "cpu"}, "trainer": {"trackers": []}},
    }  # fmt: skip

    def write(name: str, search: dict) -> str:
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**common, "name": name, "search": {"metric": "margin", **search}}))
        return str(path)

    return write


def records(folder: Path) -> dict[str, dict]:
    return {path.stem: json.loads(path.read_text()) for path in (folder / "search" / "trials").glob("*.json")}


def table(folder: Path) -> list[dict]:
    manifest = current_manifest(str(folder), "search")
    rows = pq.read_table(f"{manifest.uri}/trials.parquet").to_pylist()
    return [{name: value for name, value in row.items() if name not in VARIES} for row in rows]


def kill_a_training_worker(driver: int) -> None:
    """SIGKILL one rank below the driver."""
    for process in psutil.Process(driver).children(recursive=True):
        if any(part.startswith("ray::RayTrainWorker") for part in process.cmdline()[:1]):
            process.send_signal(signal.SIGKILL)
            return
    pytest.fail("no training worker is running")


@pytest.fixture(scope="module")
def calm(config: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a search in which nothing happened, and what it printed."""
    root = tmp_path_factory.mktemp("calm")
    output = run("tune", config("grid", {"space": GRID, "max_concurrent_trials": 2}), f"storage.root={root}")
    return root / "grid", output


@pytest.mark.long
def test_killed_in_the_middle_it_repeats_nothing_and_ends_with_the_same_table(
    config: Callable[..., str], calm: tuple[Path, str], tmp_path: Path
):
    """A worker is killed first, whose trial goes on from its checkpoint; then the driver, when a trial has ended."""
    path, torn = config("grid", {"space": GRID, "max_concurrent_trials": 2}), tmp_path / "grid"
    assert [row["status"] for row in table(calm[0])] == ["done"] * 3
    driver = start("tune", path, f"storage.root={tmp_path}")
    hit = False

    def a_trial_has_ended() -> bool:
        nonlocal hit
        if not hit and any(torn.glob("checkpoints/redi/*/checkpoints/*/files.json")):
            kill_a_training_worker(driver.pid)
            hit = True
        return bool(records(torn))

    kill_when(driver, a_trial_has_ended)
    assert hit
    before = {key: os.stat(f"{told['uri']}/metrics.jsonl").st_mtime_ns for key, told in records(torn).items()}
    assert 1 <= len(before) < 3
    with recovering("the kill of a search's driver"):
        output = run("tune", path, f"storage.root={tmp_path}")
    assert f"{len(before)} of 3 trials have been run" in output
    assert {key: os.stat(f"{records(torn)[key]['uri']}/metrics.jsonl").st_mtime_ns for key in before} == before
    assert table(torn) == table(calm[0])


@pytest.mark.long
def test_the_winners_config_is_run_without_training_again(config: Callable[..., str], calm: tuple[Path, str]):
    """So is the search's own config by `redi-ray run`, which leaves the search aside and says so; and a search that is done
    is not done again."""
    folder, output = calm
    path = config("grid", {"space": GRID, "max_concurrent_trials": 2})
    winner = re.search(r"winner: (.*winner.yaml)", output).group(1)
    assert yaml.safe_load(Path(winner).read_text())["redi"]["train"]["learning_rate"] == 1e-3
    again = run("train", winner)
    assert "checkpoints/redi   reused" in again
    assert "done in" not in again
    told = json.loads((folder / "report" / "report.json").read_text())["search"]
    assert told["winner"]["values"] == {RATE: 1e-3}
    once_more = run("tune", path, f"storage.root={folder.parent}")
    assert "all 3 trials have been run" in once_more
    assert " done in" not in once_more.replace("search             done in", "")


@pytest.mark.long
def test_stopped_trials_give_back_what_they_held(config: Callable[..., str], tmp_path: Path):
    """With 4 CPUs the third trial could not start if the first two, once stopped, kept their worker's."""
    rates = [1e-3, 3e-4, 1e-4, 3e-5, 1e-5]
    scheduler = {"kind": "asha", "grace_steps": 3, "reduction_factor": 2}
    path = config("asha", {"space": {RATE: {"grid": rates}}, "scheduler": scheduler, "max_concurrent_trials": 2})
    told = [
        "redi.train.epochs=6",
        f"storage.root={tmp_path}",
        "resources.ray={num_cpus: 4}",
        "resources.verify_workers=1",
    ]
    run("tune", path, *told)
    rows = table(tmp_path / "asha")
    assert len(rows) == 5
    stopped = [row for row in rows if row["status"] == "stopped_by_scheduler"]
    assert stopped
    assert all(3 <= row["steps"] < row["total_steps"] for row in stopped)
    assert all(row["value"] is not None for row in stopped)
    assert "all" in run("tune", path, *told), "what the rule has stopped stays stopped"
    assert table(tmp_path / "asha") == rows


@pytest.mark.long
def test_optuna_goes_on_with_the_points_it_has(config: Callable[..., str], tmp_path: Path):
    space = {ALPHA: {"choice": [0.0, 1.0]}, RATE: {"loguniform": [1e-4, 1e-3]}}
    search = {"space": space, "searcher": "optuna", "num_trials": 2, "max_concurrent_trials": 1}
    path = config("optuna", search)
    run("tune", path, "search.num_trials=1", f"storage.root={tmp_path}")
    first = records(tmp_path / "optuna")
    assert len(first) == 1
    stamps = {key: os.stat(f"{told['uri']}/metrics.jsonl").st_mtime_ns for key, told in first.items()}
    run("tune", path, f"storage.root={tmp_path}")
    second = records(tmp_path / "optuna")
    assert len(second) == 2
    assert set(first) < set(second)
    assert {key: os.stat(f"{first[key]['uri']}/metrics.jsonl").st_mtime_ns for key in first} == stamps
    assert len(table(tmp_path / "optuna")) == 2


@pytest.mark.slow
def test_bad_spaces_end_before_ray_starts(config: Callable[..., str], tmp_path: Path):
    path = config("bad", {"space": {"redi.train.learning_rte": {"grid": [1e-4]}}})
    output = run("tune", path, f"storage.root={tmp_path}", expect=2)
    assert "Did you mean `learning_rate`?" in output
    assert "Traceback" not in output
    assert not (tmp_path / "bad").exists()
    path = config("greedy", {"space": GRID, "trainer": {"num_workers": 64, "trackers": []}})
    output = run("tune", path, f"storage.root={tmp_path}", expect=2)
    assert "the cluster can never hold that" in output
    assert not list((tmp_path).rglob("checkpoints"))
