"""What a trial leaves behind: one JSON file under the hash of its config, from which everything else is made.

    <run>/search/trials/<key>.json

The file is written once, when the trial has ended. A search that was killed finds there what need not be run again, and so
does a later search whose space overlaps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from redi_ray.store import storage
from redi_ray.store.storage import finite

CURVES = ("dev_accuracy", "loss", "margin", "chosen_logp", "rejected_logp", "grad_norm", "update_norm")
"""Training metrics that a record keeps, where the training has them, beside the one that is compared."""
CURVE_POINTS = 200
"""Steps that are kept of the metrics that every step has."""
COLLAPSED = ("stopped_by_guard", "rolled_back", "nonfinite")
"""How a training ends that went wrong."""

Status = Literal[
    "done", "stopped_by_guard", "rolled_back", "nonfinite", "preempted", "stopped_by_scheduler", "out_of_time", "failed"
]


@dataclass(frozen=True)
class TrialRecord:
    """A trial that has ended."""

    key: str
    values: dict[str, Any]
    seed: int | None
    status: Status
    """Those of `redi_ray.train.progress.TrainResult`; or stopped by the scheduler, or an error that another try would repeat."""
    reason: str = ""
    """What the guard saw, or the error."""
    collapsed: bool = False
    """Whether the collapse guard tripped, or something was not finite."""
    value: float | None = None
    """Of the metric that is compared: that of the exported weights. None if it was never measured."""
    sem: float | None = None
    """Standard error of `value`, for shares of right answers."""
    steps: int = 0
    total_steps: int = 0
    tokens: float = 0.0
    """Trained on, those of prompts included."""
    train_seconds: float = 0.0
    """Of all steps together, each counted once, without the start of the workers and without the probe."""
    workers: float = 1.0
    """Ranks, on the average over `train_seconds` where their number changed."""
    uses_gpu: bool = False
    uri: str = ""
    """The training's folder."""
    scheduler: dict[str, Any] | None = None
    """The rule that stopped it, where one did."""
    engine: dict[str, Any] | None = None
    """How the evaluator's engine came to the weights (`redi_ray.search.engine.Swap`), where there is one."""
    curves: dict[str, list[float | None]] = field(default_factory=dict)
    """`step` (counted from 1) and metrics of some steps, those with a measured accuracy among them."""

    @property
    def worker_hours(self) -> float:
        return self.workers * self.train_seconds / 3600

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to run: it has its value, or never will have."""
        return self.status not in ("preempted", "failed", "out_of_time")

    def reports(self, metric: str) -> list[tuple[int, float]]:
        """(steps, value) of a metric, where it was measured."""
        pairs = zip(self.curves.get("step", []), self.curves.get(metric, []), strict=False)
        return [(int(step), value) for step, value in pairs if step is not None and value is not None]


def record_uri(run_uri: str, key: str) -> str:
    return storage.join(run_uri, "search", "trials", f"{key}.json")


def write_record(run_uri: str, record: TrialRecord) -> None:
    storage.write_json(record_uri(run_uri, record.key), finite(asdict(record)))


def rename_record(run_uri: str, key: str, values: Mapping[str, Any]) -> None:
    """Let a record name its point as the search does now: the names of cases decide nothing, and may have changed since."""
    record = any_record(run_uri, key)
    if record is not None and record.values != values:
        write_record(run_uri, replace(record, values=dict(values)))


def delete_record(run_uri: str, key: str) -> None:
    storage.delete_file(record_uri(run_uri, key))


def any_record(run_uri: str, key: str) -> TrialRecord | None:
    """The record under a key, however the trial ended."""
    uri = record_uri(run_uri, key)
    return TrialRecord(**storage.read_json(uri)) if storage.exists(uri) else None


def read_record(run_uri: str, key: str, scheduler: Mapping[str, Any] | None = None) -> TrialRecord | None:
    """The record under a key, if nothing is left to run. What another rule than `scheduler` has stopped is not ended."""
    record = any_record(run_uri, key)
    if record is None or not record.ended:
        return None
    stopped_otherwise = record.status == "stopped_by_scheduler" and record.scheduler != scheduler
    return None if stopped_otherwise else record


def read_steps(uri: str) -> list[dict[str, Any]]:
    """The lines of a training's `metrics.jsonl`, none if there is no such file; one that is being written is left out."""
    metrics = storage.join(uri, "metrics.jsonl")
    if not storage.exists(metrics):
        return []
    lines = storage.read_bytes(metrics).split(b"\n")[:-1]
    return [json.loads(line) for line in lines]


def thin(steps: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> dict[str, list[float | None]]:
    """Curves of at most about CURVE_POINTS steps, with every step at which the accuracy was measured."""
    stride = math.ceil(len(steps) / CURVE_POINTS) or 1
    kept = [
        step
        for number, step in enumerate(steps)
        if number % stride == 0 or number == len(steps) - 1 or step.get("dev_accuracy") is not None
    ]
    found = [name for name in dict.fromkeys(metrics) if any(step.get(name) is not None for step in kept)]
    return {"step": [step["step"] + 1 for step in kept], **{name: [step.get(name) for step in kept] for name in found}}


def seconds_of(steps: Sequence[Mapping[str, Any]]) -> float:
    """Time spent in the steps, each of which is there once however often the training was resumed."""
    return sum(seconds for seconds, _ in _timed(steps))


def ranks_of(steps: Sequence[Mapping[str, Any]], otherwise: int) -> float:
    """Ranks on the average over the time of the steps; `otherwise` where none tells its time."""
    timed = _timed(steps)
    seconds = sum(seconds for seconds, _ in timed)
    return sum(seconds * step.get("ranks", otherwise) for seconds, step in timed) / seconds if seconds else otherwise


def _timed(steps: Sequence[Mapping[str, Any]]) -> list[tuple[float, Mapping[str, Any]]]:
    """The seconds of each step that tells its pace, and the step."""
    return [(step["total_tokens"] / step["tokens_per_second"], step) for step in steps if step.get("tokens_per_second")]
