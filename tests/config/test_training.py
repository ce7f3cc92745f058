"""Settings that do not go together are refused with what is missing."""

from __future__ import annotations

import pytest

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
