"""Training with a progress bar: the launcher of `redi_ray.train`, given a run's workers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from redi_ray.config.objectives import Objective
from redi_ray.config.resources import TrainerSettings
from redi_ray.config.training import ModelOverrides, TrainSettings
from redi_ray.stages.bars import Bar, terminal_bar
from redi_ray.store import storage
from redi_ray.train.on_ray.launch import TrainOutcome, launch_training
from redi_ray.train.on_ray.orders import Development, Rehearsing

TAIL_BYTES = 32_768
"""Read of the metrics at a time: some fifty steps, so that a measurement between two looks is not overlooked."""


def train_with_progress(
    *,
    label: str,
    model: str,
    overrides: ModelOverrides,
    arrays: str,
    mismatched: str | None = None,
    num_groups: int,
    objective: Objective,
    settings: TrainSettings,
    out_uri: str,
    development: Development | None = None,
    rehearsing: Rehearsing | None = None,
    trainer: TrainerSettings,
    keep_float32: bool = False,
    callbacks: Sequence[Any] = (),
) -> TrainOutcome:
    """Launch or resume a training run; see `launch_training` for what it raises."""
    with watching(label, storage.join(out_uri, "metrics.jsonl"), settings.total_steps(num_groups)):
        return launch_training(
            model_path=model,
            overrides=overrides,
            sequences_uri=arrays,
            mismatched_uri=mismatched,
            objective=objective,
            settings=settings,
            out_uri=out_uri,
            development=development,
            rehearsing=rehearsing,
            name=label,
            keep_float32=keep_float32,
            callbacks=callbacks,
            trainer=trainer,
        )


@contextmanager
def watching(label: str, metrics_uri: str, total: int) -> Iterator[None]:
    """Show a bar that follows `metrics.jsonl` while the block runs: workers write it, wherever they are."""
    stop, shown = threading.Event(), dict[str, str]()
    seconds = 15.0 if metrics_uri.startswith("s3://") else 1.0
    newest = newest_metrics(metrics_uri)
    with terminal_bar(label, total, "steps", found=newest[-1]["step"] + 1 if newest else 0) as bar:

        def follow() -> None:
            while not stop.wait(seconds):
                show_newest(bar, metrics_uri, shown)

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            show_newest(bar, metrics_uri, shown)


def newest_metrics(metrics_uri: str) -> list[dict[str, Any]]:
    """The newest whole lines of the metrics, in order; none where there are none yet."""
    try:
        lines = storage.read_tail(metrics_uri, TAIL_BYTES).split(b"\n")[:-1]
        return [json.loads(line) for line in lines if line.startswith(b'{"step"')]  # the first may have been cut
    except (OSError, ValueError):
        return []  # not there yet, or a line that is being written


def show_newest(bar: Bar, metrics_uri: str, shown: dict[str, str]) -> None:
    """Move the bar to the newest line of the metrics. `shown` keeps what is not measured at every step."""
    lines = newest_metrics(metrics_uri)
    if not lines:
        return
    newest = lines[-1]
    values = {name: newest[name] for name in ("loss", "margin", "learning_rate") if newest.get(name)}
    measured = next((line["dev_accuracy"] for line in reversed(lines) if line.get("dev_accuracy") is not None), None)
    if measured is not None:
        values["dev_accuracy"] = measured
    shown.update({name: f"{value:.3g}" for name, value in values.items()})
    bar.set_postfix(shown, refresh=False)
    bar.update(newest["step"] + 1 - bar.n)
    bar.refresh()
