"""What a scheduler hears of a training: the value that counts so far, and nothing once the training is about to export."""

from __future__ import annotations

from redi_ray.config.training import ProbeSettings, TrainSettings
from redi_ray.search.running_value import RunningValue

ACCURACIES = {1: 0.1, 2: 0.9, 4: 0.7, 6: 0.95, 8: 0.5, 10: 0.6, 12: 0.6}
"""After steps 4, 8 and 12 there is a checkpoint."""


def heard(settings: TrainSettings, *, total_steps: int = 12, metric: str = "dev_accuracy") -> dict[int, float]:
    """Steps -> value, where there is one. A step without an accuracy has none, or null as the log has it."""
    running = RunningValue(metric, settings, total_steps)
    found = {}
    for steps in range(1, total_steps + 1):
        accuracy = ACCURACIES.get(steps)
        told = {"margin": 0.01 * steps} | ({} if accuracy is None and steps % 2 else {"dev_accuracy": accuracy})
        if (value := running.after(steps, told)) is not None:
            found[steps] = value
    return found


LAST = {"checkpoint_every": 4, "keep_best": "dev_accuracy", "probe": ProbeSettings(every=2)}


def test_the_value_as_it_is_where_the_last_weights_are_exported() -> None:
    assert heard(TrainSettings(**LAST)) == {steps: ACCURACIES[steps] for steps in (1, 2, 4, 6, 8, 10)}


def test_the_best_checkpoint_so_far_where_that_is_exported() -> None:
    """What was better between two checkpoints is lost, and does not count."""
    assert heard(TrainSettings(**LAST, export="best")) == {4: 0.7, 6: 0.7, 8: 0.7, 10: 0.7}


def test_nothing_at_the_step_where_patience_runs_out() -> None:
    """A scheduler that stopped the training there would do so while it exports, and the trial could not win."""
    assert heard(TrainSettings(**LAST, export="best", patience=4)) == {4: 0.7, 6: 0.7}
    assert heard(TrainSettings(**LAST, patience=8)) == {1: 0.1, 2: 0.9, 4: 0.7, 6: 0.95, 8: 0.5, 10: 0.6}


def test_patience_may_look_at_another_metric() -> None:
    found = heard(TrainSettings(**LAST, patience=4), metric="margin")
    assert found == {steps: 0.01 * steps for steps in range(1, 8)}
