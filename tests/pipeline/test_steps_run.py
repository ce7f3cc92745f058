"""Named steps for real: selected, trained, merged on imported traces; killed in the merge, moved elsewhere, and made again."""

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
from processes import rows
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
    "again": {"do": "train", "from": "sft", "on": "hard", "objective": {"name": "sft"}, "train": {"max_steps": 2}},
    "soup": {"do": "merge", "of": {"sft": 1, "again": 3}},
}


def weights(manifest: Manifest) -> dict[str, torch.Tensor]:
    return load_file(Path(manifest.facts["export"]) / "model.safetensors")


def read(path: Path, root: Path) -> Pipeline:
    return Pipeline(load_config(str(path), [f"storage.root={root}"]))


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Imported traces, a few steps of training on one worker."""
    path = write_imported(tmp_path_factory.mktemp("traces"), num_problems=30)
    raw = yaml.safe_load(path.read_text())
    raw["problems"].pop("dev")
    train = {"batch_size": 8, "max_steps": 2, "learning_rate": 1e-3}
    raw |= {"sft": {"train": train}, "redi": {"train": train}, "steps": STEPS}
    raw["resources"] = {
        "engine": {"device": "cpu"},
        "trainer": {"num_workers": 1},
        "verify_workers": 1,
        "curate_workers": 1,
    }
    path.write_text(yaml.safe_dump(raw))
    return path


@pytest.mark.slow
def test_selected_trained_merged_killed_and_moved(
    ray_session: None, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "runs"
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test
    monkeypatch.setattr(merge, "merge", dies)
    with pytest.raises(ray.exceptions.RayError):
        read(config, root).until("soup")
    monkeypatch.undo()
    found = {state.step.name: state.standing for state in of(config, root)}
    assert found["again"] == "finished"
    assert found["soup"] in ("missing", "cut off")

    soup = read(config, root).until("soup")
    run = root / "imported"
    sft, again = (current_manifest(str(run), f"checkpoints/{name}") for name in ("sft", "again"))
    for name, tensor in weights(soup).items():
        mean = 0.25 * weights(sft)[name] + 0.75 * weights(again)[name]
        torch.testing.assert_close(tensor, mean, rtol=0, atol=1e-7)
    assert any(not torch.equal(weights(sft)[name], weights(again)[name]) for name in weights(sft))
    kept = rows(run, "steps/hard/verified", "verified")
    rates = {row["problem_id"]: [] for row in kept}
    for row in rows(run, "verified", "verified"):
        rates.setdefault(row["problem_id"], []).append(row["verdict"] == "correct")
    wanted = {problem for problem, right in rates.items() if sum(right) / len(right) <= 0.7}
    assert {row["problem_id"] for row in kept} == wanted
    assert len(kept) == 4 * len(wanted)

    shutil.move(root, tmp_path / "moved")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "moved").rglob("*.safetensors")}
    again_there = read(config, tmp_path / "moved").until("soup")
    assert again_there.facts["export"].startswith(str(tmp_path / "moved"))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "moved").rglob("*.safetensors")} == before


def dies(*_: object) -> None:
    """In place of the merge: its process is gone, every time."""
    os._exit(1)


def of(config: Path, root: Path, *changes: str) -> list:
    loaded = load_config(str(config), [f"storage.root={root}", *changes])
    return states(graph_of(loaded), Run.of(loaded))


def test_until_names_a_step_that_is_there(config: Path, tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="no step named soupe"):
        read(config, tmp_path).until("soupe")
