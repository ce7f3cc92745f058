"""Several evaluations at a time: as many as the config allows, and none begins after one has failed."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from redi_ray.config.load import load_config
from redi_ray.pipeline.runner import Pipeline
from redi_ray.store.manifests import Manifest

ARMS = "redi.arms={a: {objective: {name: redi}}, b: {objective: {name: redi}}}"


class Evaluations:
    """Stands in for the stage: notes what begins and how many are at work together; one of them fails if told so."""

    def __init__(self, failing: str | None = None) -> None:
        self.failing, self.begun, self.at_work, self.most = failing, list[str](), 0, 0
        self.lock = threading.Lock()

    def __call__(self, name: str) -> Manifest:
        with self.lock:
            self.begun.append(name)
            self.at_work += 1
            self.most = max(self.most, self.at_work)
        time.sleep(0.05)
        with self.lock:
            self.at_work -= 1
        if name == self.failing:
            raise RuntimeError(name)
        return Manifest(stage="eval", key=name, uri=name, config={}, inputs={})


def pipeline(root: Path, at_a_time: int, stage: Evaluations, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    told = [f"storage.root={root}", f"resources.concurrent_evaluations={at_a_time}", ARMS]
    made = Pipeline(load_config("configs/demo.yaml", told))
    monkeypatch.setattr(made, "checkpoint", lambda name: None)
    monkeypatch.setattr(made, "evaluation", stage)
    return made


@pytest.mark.parametrize("at_a_time", [1, 2])
def test_as_many_at_a_time_as_told(at_a_time: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Evaluations()
    found = pipeline(tmp_path, at_a_time, stage, monkeypatch).evaluate()
    assert stage.most == at_a_time
    assert {name: manifest.uri for name, manifest in found.items()} == {n: n for n in ("base", "sft", "a", "b")}


def test_after_a_failure_none_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Evaluations(failing="base")
    with pytest.raises(RuntimeError, match="base"):
        pipeline(tmp_path, 1, stage, monkeypatch).evaluate()
    time.sleep(0.3)
    assert len(stage.begun) <= 2, "the next may have begun before the failure was seen"
