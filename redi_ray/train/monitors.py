"""What a run writes while it trains: one JSON line per step, and optional trackers.

`metrics.jsonl` is the record that reports are made from. A resumed run first cuts the lines from its restart step on (and
a last line that was cut off), so that every step is there once. Trackers get the same numbers; their packages are loaded
only when named.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

STEP_METRICS = (
    "loss",
    "chosen_logp",
    "rejected_logp",
    "margin",
    "pair_accuracy",
    "grad_norm",
    "update_norm",
    "learning_rate",
    "alpha",
    "scored_tokens",
    "tokens_per_second",
    "peak_memory_gib",
    "pack_fill",
)
"""What every line holds, null where an objective has no such thing (no rejected side, no alpha)."""


class TrackerError(RuntimeError):
    """A tracker's package is missing; the message names the extra to install."""


class Tracker(Protocol):
    """A place that takes a step's numbers."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Event files in `folder`; events from `start_step` on that an earlier attempt wrote are purged."""

    def __init__(self, folder: Path, start_step: int) -> None:
        from tensorboardX import SummaryWriter

        self.writer = SummaryWriter(str(folder), purge_step=start_step or None)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self.writer.add_scalar(f"train/{name}", value, step)

    def close(self) -> None:
        self.writer.close()


class WeightsAndBiases:
    """One wandb run per folder: the same run goes on after a restart. Account and mode come from WANDB_* variables."""

    def __init__(self, name: str, folder: Path, config: Mapping[str, Any]) -> None:
        import wandb

        self.run = wandb.init(
            name=name, id=name.replace("/", "-")[-64:], resume="allow", dir=str(folder), config=dict(config)
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.run.log(dict(metrics), step=step)

    def close(self) -> None:
        self.run.finish()


class MLflow:
    """One MLflow run per attempt, with the run's name. The server comes from MLFLOW_TRACKING_URI."""

    def __init__(self, name: str, config: Mapping[str, Any]) -> None:
        import mlflow

        self.mlflow = mlflow
        mlflow.start_run(run_name=name)
        mlflow.log_params({key: str(value)[:500] for key, value in config.items()})

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.mlflow.log_metrics(dict(metrics), step=step)

    def close(self) -> None:
        self.mlflow.end_run()


TRACKER_PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow"}


def require_trackers(names: Sequence[str]) -> None:
    """Raise, before anything starts, ValueError for an unknown tracker and TrackerError for a missing package."""
    for name in names:
        if name not in TRACKER_PACKAGES:
            raise ValueError(f"unknown tracker {name!r}; there are {', '.join(TRACKER_PACKAGES)}")
        if importlib.util.find_spec(TRACKER_PACKAGES[name]) is None:
            raise TrackerError(f"tracker {name!r} needs a package that is missing: pip install redi_ray[trackers]")


def open_tracker(name: str, run_name: str, folder: Path, start_step: int, config: Mapping[str, Any]) -> Tracker:
    require_trackers([name])
    if name == "wandb":
        return WeightsAndBiases(run_name, folder, config)
    if name == "mlflow":
        return MLflow(run_name, config)
    return TensorBoard(folder / "tensorboard", start_step)


def keep_before(path: Path, step: int) -> None:
    """Cut `path` to its complete lines of steps before `step`; a file that is not there is left so."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        try:
            if json.loads(line)["step"] < step:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue
    temporary = path.with_suffix(".cut")
    temporary.write_text("".join(kept))
    temporary.replace(path)


class Monitors:
    """Rank 0's view of the run. `Monitors()` records nothing: that is what the other ranks hold.

    folder: where `metrics.jsonl`, `tensorboard/` and trackers' files go.
    upload: copies the folder to durable storage; called before every checkpoint and at the end.
    bar: makes a progress bar from `total=` and `desc=` (tqdm, or Ray's, which reaches the driver's terminal).
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        trackers: Sequence[str] = (),
        run_name: str = "redi_ray",
        config: Mapping[str, Any] | None = None,
        upload: Callable[[Path], None] | None = None,
        bar: Callable[..., Any] | None = None,
    ) -> None:
        self.folder, self.trackers, self.run_name = folder, tuple(trackers), run_name
        self.config, self.upload, self.make_bar = dict(config or {}), upload, bar
        self.open: list[Tracker] = []
        self.file: Any = None
        self.bar: Any = None

    @property
    def path(self) -> Path | None:
        return self.folder / "metrics.jsonl" if self.folder else None

    def start(self, start_step: int, total_steps: int) -> None:
        """Open everything for a run that begins, or begins again, at `start_step`."""
        if self.folder is None or self.path is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        keep_before(self.path, start_step)
        self.file = self.path.open("a")
        self.open = [open_tracker(n, self.run_name, self.folder, start_step, self.config) for n in self.trackers]
        if self.make_bar is not None:
            self.bar = self.make_bar(total=total_steps, desc=self.run_name)
            self.bar.update(start_step)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """One step's numbers. Values that are not finite are null in the file and left out of the trackers."""
        if self.file is None:
            return
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        names = [*STEP_METRICS, *(name for name in metrics if name not in STEP_METRICS)]
        self.file.write(json.dumps({"step": step, **{name: finite.get(name) for name in names}}) + "\n")
        self.file.flush()
        for tracker in self.open:
            tracker.log(step, finite)
        if self.bar is not None:
            self.bar.update(1)

    def sync(self) -> None:
        """Make durable what is written so far. Before a checkpoint, so that none is ever ahead of its metrics."""
        if self.file is not None and self.folder is not None:
            os.fsync(self.file.fileno())
            if self.upload is not None:
                self.upload(self.folder)

    def close(self) -> None:
        """Close files, trackers and the bar, and upload a last time; closing twice does no harm."""
        for closing in [*self.open, *(x for x in (self.file, self.bar) if x is not None)]:
            closing.close()
        if self.file is not None and self.upload is not None and self.folder is not None:
            self.upload(self.folder)
        self.open, self.file, self.bar = [], None, None


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`."""
    return [json.loads(line) for line in path.read_text().splitlines()]
