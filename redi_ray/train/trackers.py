"""Trackers: TensorBoard, Weights & Biases, MLflow. They get the numbers of `metrics.jsonl`, which stays the record.

A run that is resumed goes on in the tracker's run that it began, found by `run_id`, so a restart does not show as another
experiment. Packages are imported only when a tracker is named.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from redi_ray.errors import UserError

PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow"}
"""Every tracker with the package it needs."""
LONGEST_PARAMETER = 500
"""Characters of a parameter's value that MLflow is sure to take."""


class TrackerError(UserError):
    """A tracker cannot be used: its package is missing, or it does not start. The message says what it lacks."""


class Tracker(Protocol):
    """A place that takes a step's numbers."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def close(self, failed: bool) -> None: ...


class TensorBoard:
    """Event files in `folder`; events from `start_step` on that an earlier attempt wrote are purged."""

    def __init__(self, folder: Path, start_step: int) -> None:
        from tensorboardX import SummaryWriter

        self.writer = SummaryWriter(str(folder), purge_step=start_step or None)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self.writer.add_scalar(f"train/{name}", value, step)

    def close(self, failed: bool) -> None:
        self.writer.close()


class WeightsAndBiases:
    """A wandb run. Account, project and mode come from WANDB_* variables; files go to `folder`/wandb.

    Offline, every attempt leaves a folder of its own with the same run id: `wandb sync` joins them. Steps that are there
    already are passed over by the server.
    """

    def __init__(self, name: str, run_id: str, folder: Path, config: Mapping[str, Any]) -> None:
        import wandb

        self.run = wandb.init(name=name, id=run_id, resume="allow", dir=str(folder), config=dict(config))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.run.log(dict(metrics), step=step)

    def close(self, failed: bool) -> None:
        self.run.finish(exit_code=int(failed))


class MLflow:
    """An MLflow run, tagged `redi_ray.run_id`. Server and experiment come from MLFLOW_* variables; without a server the
    numbers go to `folder`/mlflow.db, and not to wherever a worker happens to run."""

    def __init__(self, name: str, run_id: str, folder: Path, config: Mapping[str, Any]) -> None:
        import mlflow

        self.mlflow = mlflow
        if not mlflow.is_tracking_uri_set():
            mlflow.set_tracking_uri(f"sqlite:///{folder.resolve()}/mlflow.db")
        tag = "redi_ray.run_id"
        found = mlflow.search_runs(filter_string=f"tags.`{tag}` = '{run_id}'", max_results=1, output_format="list")
        if found:
            run = mlflow.start_run(run_id=found[0].info.run_id)
            past = mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")
            self.last_step = max((metric.step for metric in past), default=-1)
        else:
            mlflow.start_run(run_name=name, tags={tag: run_id})
            mlflow.log_params({key: str(value)[:LONGEST_PARAMETER] for key, value in flat(config).items()})
            self.last_step = -1

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if step > self.last_step:  # a step that is repeated after a resume would be there twice
            self.mlflow.log_metrics(dict(metrics), step=step)

    def close(self, failed: bool) -> None:
        self.mlflow.end_run("FAILED" if failed else "FINISHED")


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted names.

    Example: {"settings": {"guard": {"window": 20}}} -> {"settings.guard.window": 20}.
    """
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def require_trackers(names: Sequence[str]) -> None:
    """Raise, before anything starts, ValueError for an unknown tracker and TrackerError for a missing package."""
    for name in names:
        if name not in PACKAGES:
            raise ValueError(f"unknown tracker {name!r}; there are {', '.join(PACKAGES)}")
        if importlib.util.find_spec(PACKAGES[name]) is None:
            raise TrackerError(f"tracker {name!r} needs a package that is missing: pip install redi_ray[trackers]")


def open_tracker(
    name: str, *, run_name: str, run_id: str, folder: Path, start_step: int, config: Mapping[str, Any]
) -> Tracker:
    """Open a tracker for a run that begins, or begins again, at `start_step`. Raises TrackerError where it cannot."""
    require_trackers([name])
    try:
        if name == "wandb":
            return WeightsAndBiases(run_name, run_id, folder, config)
        if name == "mlflow":
            return MLflow(run_name, run_id, folder, config)
        return TensorBoard(folder / "tensorboard", start_step)
    except Exception as error:  # no account, no server, a store that it refuses: each package has errors of its own
        raise TrackerError(f"tracker {name!r} does not start: {error}") from error
