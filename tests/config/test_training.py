"""Settings that do not go together are refused with what is missing."""

from __future__ import annotations

import pytest

from redi_ray.config.load import ConfigError, load_config
from redi_ray.config.training import ProbeSettings, TrainSettings


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"keep_best": "margin"}, "set checkpoint_every"),
        ({"keep_best": "dev_accuracy", "checkpoint_every": 5}, "needs a probe"),
        ({"keep_best": "dev_accuracy", "checkpoint_every": 5, "probe": ProbeSettings(every=2)}, "multiple of probe.every"),
        ({"export": "best"}, "export: best needs a metric to go by: set keep_best"),
        ({"patience": 3}, "patience needs a metric to go by: set keep_best"),
        ({"patience": 0, "keep_best": "margin", "checkpoint_every": 5}, "patience must be >= 1, got 0"),
    ],
)  # fmt: skip
def test_what_the_best_checkpoint_needs(changes: dict, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        TrainSettings(**changes)


def test_the_last_batch_of_every_epoch_is_a_step() -> None:
    """Three epochs of ten groups in batches of four: 4, 4 and 2, three times; not the eight steps of thirty groups."""
    settings = TrainSettings(batch_size=4, epochs=3)
    assert (settings.steps_per_epoch(10), settings.total_steps(10)) == (3, 9)
    assert TrainSettings(batch_size=4, epochs=3, max_steps=5).total_steps(10) == 5


SHARED = "redi.train={guard: {window: 8, action: warn, chosen_drop: 0.5}, probe: {every: 5, problems: 7}}"


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ("{}", {"action": "warn", "window": 8, "chosen_drop": 0.5, "every": 5}),
        ("{guard: {action: stop}}", {"action": "stop", "window": 8, "chosen_drop": 0.5, "every": 5}),
        ("{guard: {window: 3}, probe: {every: 9}}", {"action": "warn", "window": 3, "chosen_drop": 0.5, "every": 9}),
        ("{probe: null, learning_rate: 1e-3}", {"action": "warn", "window": 8, "chosen_drop": 0.5, "every": None}),
    ],
)
def test_an_arm_changes_only_what_it_names(own: str, expected: dict) -> None:
    """Section by section: an arm's `guard: {action: stop}` keeps the shared window."""
    overrides = ["problems.source.num_dev=20", SHARED, f"redi.arms.redi.train={own}"]
    settings = load_config("configs/demo.yaml", overrides).redi.settings("redi")
    found = {name: getattr(settings.guard, name) for name in ("action", "window", "chosen_drop")}
    assert found | {"every": settings.probe and settings.probe.every} == expected
    assert settings.probe is None or settings.probe.problems == 7


def test_what_is_wrong_in_an_arm_is_told_by_its_field() -> None:
    """Beside the shared settings it is checked with, which nobody wants to read."""
    own = "redi.arms.redi.train={guard: {acton: stop, window: 1}, patience: 3}"
    with pytest.raises(ConfigError) as caught:
        load_config("configs/demo.yaml", [own])
    told = str(caught.value).splitlines()[1:]
    assert len(told) == 1
    assert told[0].startswith("  - redi: arm 'redi': train.guard.acton: unknown key. Did you mean `action`?")
