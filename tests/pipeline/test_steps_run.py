"""Named steps for real: selected, trained, repeated, merged on imported traces; killed, moved elsewhere, and made again."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
import ray
import torch
import yaml
from imported_run import write_imported
from processes import kill_when, rows, start
from safetensors.torch import load_file

from redi_ray.config.load import load_config
from redi_ray.pipeline.graph import GraphError
from redi_ray.pipeline.kinds import merge
from redi_ray.pipeline.runner import Pipeline
from redi_ray.pipeline.standard import graph_of
from redi_ray.pipeline.states import states
from redi_ray.stages.run import Run
from redi_ray.store.manifests import Manifest, current_manifest

STEPS = {
    "hard": {"do": "select", "of": "verified", "difficulty": {"max_rate": 0.7}},
    "again": {"do": "train", "from": "sft", "on": "hard", "objective": {"name": "sft"}, "train": {"max_steps": 3}},
    "more": {"do": "train", "from": "sft", "on": "hard", "objective": {"name": "sft"}},
    "soup": {"do": "merge", "of": {"sft": 1, "again": 2, "more": 1}},
}
REPEAT = {"steps": ["more"], "times": 3, "carry": {"sft": "more"}}
WEIGHTS = "model.safetensors"
MADE_LATE = ("again", "more@1", "more@2", "more@3", "soup")


def weights(manifest: Manifest) -> dict[str, torch.Tensor]:
    return load_file(Path(manifest.facts["export"]) / WEIGHTS)


def read(path: Path, root: Path) -> Pipeline:
    return Pipeline(load_config(str(path), [f"storage.root={root}"]))


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Imported traces, a few steps of training on one worker."""
    path = write_imported(tmp_path_factory.mktemp("traces"), num_problems=30)
    raw = yaml.safe_load(path.read_text())
    raw["problems"].pop("dev")
    train = {"batch_size": 8, "max_steps": 6, "learning_rate": 1e-3, "checkpoint_every": 2}
    raw |= {"sft": {"train": train}, "redi": {"train": train}, "steps": STEPS, "repeat": REPEAT}
    raw["resources"] = {
        "engine": {"device": "cpu"},
        "trainer": {"num_workers": 1},
        "verify_workers": 1,
        "curate_workers": 1,
        "concurrent_steps": 2,
    }
    path.write_text(yaml.safe_dump(raw))
    return path


@pytest.fixture(scope="module")
def calm(ray_session: None, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run's root."""
    root = tmp_path_factory.mktemp("calm")
    read(config, root).until("soup")
    return root


@pytest.mark.slow
def test_selected_trained_merged_and_moved(calm: Path, config: Path, tmp_path: Path) -> None:
    run = calm / "imported"
    sft, again, more = (current_manifest(str(run), f"checkpoints/{name}") for name in ("sft", "again", "more@3"))
    for name, tensor in weights(current_manifest(str(run), "checkpoints/soup")).items():
        mean = 0.25 * weights(sft)[name] + 0.5 * weights(again)[name] + 0.25 * weights(more)[name]
        torch.testing.assert_close(tensor, mean, rtol=0, atol=2.5e-7)  # an ulp or two
    assert any(not torch.equal(weights(sft)[name], weights(again)[name]) for name in weights(sft))
    kept = rows(run, "steps/hard/verified", "verified")
    rates = {row["problem_id"]: [] for row in kept}
    for row in rows(run, "verified", "verified"):
        rates.setdefault(row["problem_id"], []).append(row["verdict"] == "correct")
    wanted = {problem for problem, right in rates.items() if sum(right) / len(right) <= 0.7}
    assert {row["problem_id"] for row in kept} == wanted
    assert len(kept) == 4 * len(wanted)

    moved, away = tmp_path / "moved", calm.with_name("away")
    shutil.copytree(calm, moved)
    calm.rename(away)
    try:
        before = {path: path.stat().st_mtime_ns for path in moved.rglob("*.safetensors")}
        there = read(config, moved).until("soup")
        assert there.facts["export"].startswith(str(moved))
        assert {path: path.stat().st_mtime_ns for path in moved.rglob("*.safetensors")} == before
    finally:
        away.rename(calm)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_killed_side_by_side_in_a_round_and_in_a_merge(
    calm: Path, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 of the driver while two trainings run, and in the second of three rounds; then the process of the merge is lost.
    What comes out is what the undisturbed run has: the same rows, the same weights."""
    root, calmly = tmp_path / "torn", calm / "imported"
    run = root / "imported"
    shutil.copytree(calm, root, ignore=shutil.ignore_patterns(*MADE_LATE, "*-pairs"))
    command = ("run", str(config), "--until", "soup", f"storage.root={root}")
    pair = [run / "checkpoints" / name for name in ("again", "more@1")]
    kill_when(start(*command), lambda: all(any(folder.glob("*/checkpoints/*/files.json")) for folder in pair))
    assert not all((folder / "manifest.json").exists() for folder in pair)
    second = run / "checkpoints" / "more@2"
    kill_when(start(*command), lambda: any(second.glob("*/checkpoints/*/files.json")))
    assert not (second / "manifest.json").exists()

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test
    monkeypatch.setattr(merge, "merge", dies)
    with pytest.raises(ray.exceptions.RayError) as failed:
        read(config, root).until("soup")
    assert failed.value.__notes__ == ["in step soup (merge)"]
    monkeypatch.undo()
    found = {state.step.name: state.standing for state in of(config, root)}
    assert {found[name] for name in MADE_LATE[:-1]} == {"finished"}
    assert found["soup"] in ("missing", "cut off")

    read(config, root).until("soup")
    for name in ("again-pairs", "more@1-pairs", "more@3-pairs"):
        stage = f"steps/{name}/curated"
        assert rows(run, stage, "pairs") == rows(calmly, stage, "pairs")
        assert rows(run, stage, "examples") == rows(calmly, stage, "examples")
    for name in MADE_LATE:
        ours, theirs = (current_manifest(str(where), f"checkpoints/{name}") for where in (run, calmly))
        assert ours.key == theirs.key
        assert (Path(ours.facts["export"]) / WEIGHTS).read_bytes() == (
            Path(theirs.facts["export"]) / WEIGHTS
        ).read_bytes()


def dies(*_: object) -> None:
    """In place of the merge: its process is gone, every time."""
    os._exit(1)


def of(config: Path, root: Path, *changes: str) -> list:
    loaded = load_config(str(config), [f"storage.root={root}", *changes])
    return states(graph_of(loaded), Run.of(loaded))


def test_until_names_a_step_that_is_there(config: Path, tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="no step named soupe"):
        read(config, tmp_path).until("soupe")
