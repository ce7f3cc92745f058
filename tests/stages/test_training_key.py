"""A training is reused exactly when nothing changed that could have changed its weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from redi_ray.config.load import load_config
from redi_ray.config.objectives import RediObjective
from redi_ray.config.resources import TrainerSettings
from redi_ray.config.training import ProbeSettings, TrainSettings
from redi_ray.stages.run import Run
from redi_ray.stages.training import Recipe, training_stage
from redi_ray.store.manifests import Manifest


def test_a_probe_and_its_judge_are_part_of_the_key(tmp_path: Path) -> None:
    """Through the guard they can end a run. How answers are read matters to a training only if it has a probe."""
    run, otherwise_judged = (
        Run.of(load_config("configs/demo.yaml", [f"storage.root={tmp_path}", *changes]))
        for changes in ([], ["verify.answers={extract: [last_number]}"])
    )
    dev, other_dev = (Manifest("dev", key, "uri", {}, {}) for key in ("one", "another"))
    plain, probe = TrainSettings(), ProbeSettings()
    probed = replace(plain, probe=probe)

    def key(run: Run, settings: TrainSettings, **inputs: Manifest) -> str:
        recipe = Recipe(RediObjective(), settings, TrainerSettings(), "pairs")
        return training_stage(run, "redi", recipe, inputs).key

    assert key(run, plain) == key(otherwise_judged, plain)
    keys = [
        key(run, plain),
        key(run, probed, dev=dev),
        key(run, replace(plain, probe=replace(probe, every=7)), dev=dev),
        key(run, probed, dev=other_dev),
        key(otherwise_judged, probed, dev=dev),
    ]
    assert len(set(keys)) == len(keys)
