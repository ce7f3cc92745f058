"""Training with a progress bar: the launcher of `redi_ray.train`, given a run's workers."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from tqdm import tqdm

from redi_ray import storage
from redi_ray.config.objectives import Objective
from redi_ray.config.resources import TrainerSettings
from redi_ray.config.training import ModelOverrides, TrainSettings
from redi_ray.stages.run import terminal_bar
from redi_ray.train.launch import TrainOutcome, launch_training


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
    trainer: TrainerSettings,
) -> TrainOutcome:
    """Launch or resume a training run; see `launch_training` for what it raises."""
    with watching(label, storage.join(out_uri, "metrics.jsonl"), total_steps(num_groups, settings)):
        return launch_training(
            model_path=model,
            overrides=overrides,
            sequences_uri=arrays,
            mismatched_uri=mismatched,
            objective=objective,
            settings=settings,
            out_uri=out_uri,
            name=label,
            **asdict(trainer),
        )


def total_steps(num_groups: int, settings: TrainSettings) -> int:
    """Optimizer steps of a run, unless groups are dropped for their length."""
    steps = settings.epochs * math.ceil(num_groups / settings.batch_size)
    return steps if settings.max_steps is None else min(steps, settings.max_steps)


@contextmanager
def watching(label: str, metrics_uri: str, total: int) -> Iterator[None]:
    """Show a bar that follows `metrics.jsonl` while the block runs: workers write it, wherever they are."""
    stop = threading.Event()
    seconds = 15.0 if metrics_uri.startswith("s3://") else 1.0
    with terminal_bar(label, total, "steps") as bar:

        def follow() -> None:
            while not stop.wait(seconds):
                show_newest(bar, metrics_uri)

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            show_newest(bar, metrics_uri)


def show_newest(bar: tqdm, metrics_uri: str) -> None:
    """Move the bar to the newest whole line of the metrics."""
    try:
        line = storage.read_tail(metrics_uri, 4096).rstrip(b"\n").rsplit(b"\n", 1)[-1]
        newest = json.loads(line)
    except (OSError, ValueError):
        return  # not there yet, or a line that is being written
    shown = {name: f"{newest[name]:.3g}" for name in ("loss", "margin", "learning_rate") if newest.get(name)}
    bar.set_postfix(shown, refresh=False)
    bar.n = newest["step"] + 1
    bar.refresh()
