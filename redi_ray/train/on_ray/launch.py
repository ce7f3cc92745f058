"""A training run on Ray Train: workers, failures, durable results. Only this and `worker.py` know Ray here.

    <out_uri>/checkpoints/step-*/    see `redi_ray.train.checkpoint`
    <out_uri>/metrics.jsonl          one line per step
    <out_uri>/tensorboard/           where asked for
    <out_uri>/float32/               the same weights in float32, where the export is narrower and they are asked for
    <out_uri>/export/                the Hugging Face folder; its `manifest.json` is written last and ends the run

Ray Train starts the workers, makes the process group, and restarts all of them when one is lost. What survives is ours:
checkpoints go straight to `out_uri` (local or s3://), so the next attempt, or the same call after the driver was killed,
goes on from the newest valid one. Ray's own checkpoint bookkeeping, which a torn write can break, is not used.
"""

from __future__ import annotations

import logging
import os
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redi_ray.cluster.capacity import require_room
from redi_ray.cluster.preemption import saving_first
from redi_ray.config.objectives import Objective
from redi_ray.config.resources import TrainerSettings
from redi_ray.config.training import ModelOverrides, TrainSettings
from redi_ray.errors import Preempted, StorageError, UserError
from redi_ray.store import storage
from redi_ray.train.on_ray.orders import REFUSED, STOP, Development, Orders, Rehearsing
from redi_ray.train.on_ray.room import resources_of_rank, told_of_ranks
from redi_ray.train.progress import NonfiniteError
from redi_ray.train.trackers import require_trackers

if TYPE_CHECKING:
    from ray.train import FailureConfig, ScalingConfig

log = logging.getLogger("redi_ray")


class TrainError(RuntimeError):
    """A run could not be brought to its end; the message holds the worker's error."""


class TrainRefused(TrainError, UserError):
    """Settings, model and data do not fit together; another attempt would end the same way."""


@dataclass(frozen=True)
class TrainOutcome:
    """What a finished run left behind. For `status` see `redi_ray.train.progress.TrainResult`."""

    export_uri: str
    metrics_uri: str
    steps: int
    status: str
    final: dict[str, float]
    """Metrics of the last step."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Counts of sequences, skipped steps, the guard's reason, seconds."""


def launch_training(
    *,
    model_path: str,
    overrides: ModelOverrides,
    sequences_uri: str,
    mismatched_uri: str | None = None,
    objective: Objective,
    settings: TrainSettings,
    out_uri: str,
    development: Development | None = None,
    rehearsing: Rehearsing | None = None,
    trainer: TrainerSettings,
    name: str = "redi_ray",
    keep_float32: bool = False,
    callbacks: Sequence[Any] = (),
) -> TrainOutcome:
    """Train on Ray and export. Call it again with the same `out_uri` to go on, or to get a finished run's outcome.

    Ray must be connected.

    Args:
        model_path: Hugging Face folder (local or s3://) or hub name.
        sequences_uri: folder that `SequenceStore.save` wrote (local or s3://).
        mismatched_uri: the same of its mismatched sequences, for an objective that compares with them.
        out_uri: the run's own folder; everything that decides the result should be hashed into its name.
        development: needed where `settings.probe` is set.
        rehearsing: sequences with log-probs of `model_path`, and how they are rehearsed beside the others.
        trainer: the ranks, and what they survive; for a number that changes with the cluster see `elastic.py`.
        name: of the run in trackers and on the model card.
        keep_float32: keep the weights in float32 beside a narrower export; their place is among the outcome's facts.
        callbacks: for Ray's RunConfig, such as Tune's report callback; metrics are reported at every checkpoint and probe.

    Raises ValueError for a tracker, model or development that is not there; TrainRefused where settings and data do not fit
    (at once, whichever rank finds it); NonfiniteError where a step was not finite and the settings stop there; TrainError
    when more than `trainer.max_failures` attempts failed; StorageError where `out_uri` cannot be written; Preempted after SIGTERM
    when a checkpoint has been saved; CapacityError where the workers, with the memory that they take, would wait for ever.
    """
    require_trackers(trainer.trackers)
    if settings.probe is not None and development is None:
        raise ValueError("settings.probe needs `development`: the problems to measure on")
    out_uri = storage.resolve(out_uri)
    if (finished := read_outcome(out_uri)) is not None:
        return finished
    model_path = resolve_model(model_path)
    anchored = getattr(objective, "kl_vocabulary", 0) > 0
    resources = resources_of_rank(model_path, trainer, overrides, anchored)
    require_room(f"workers of {name}", [resources] * trainer.pool[0], trainer.label_selector)
    orders = Orders(
        model_path=model_path,
        overrides=overrides,
        sequences_uri=storage.resolve(sequences_uri),
        mismatched_uri=storage.resolve(mismatched_uri) if mismatched_uri else None,
        objective=objective,
        settings=settings,
        out_uri=out_uri,
        name=name,
        report_probes=bool(callbacks),
        development=development if settings.probe is not None else None,
        rehearsing=rehearsing and replace(rehearsing, sequences_uri=storage.resolve(rehearsing.sequences_uri)),
        keep_float32=keep_float32,
        **told_of_ranks(trainer, resources),
    )
    run_on_ray(orders, trainer, resources, callbacks)
    if (outcome := read_outcome(out_uri)) is None:
        raise TrainError(f"{out_uri}: the workers ended without an export")
    return outcome


def scaling_of(trainer: TrainerSettings, resources: Mapping[str, float]) -> ScalingConfig:
    """Ray Train's word for how many ranks there are, and where."""
    from ray.train import ScalingConfig

    fewest, most = trainer.pool
    return ScalingConfig(  # type: ignore[call-arg]  # Ray Train V2's, put in place at run time
        num_workers=(fewest, most) if fewest < most else most,  # type: ignore[arg-type]
        elastic_resize_monitor_interval_s=trainer.resize_check_s,
        use_gpu=trainer.on_gpu,
        resources_per_worker=dict(resources),
        label_selector=dict(trainer.label_selector) or None,
    )


def failures_of(trainer: TrainerSettings) -> FailureConfig:
    """Ray Train's word for what the ranks survive."""
    from ray.train import FailureConfig

    return FailureConfig(  # type: ignore[call-arg]
        max_failures=trainer.max_failures,
        max_preemption_failures=trainer.max_preemption_failures,
        preemption_grace_s=trainer.preemption_grace_s,
    )


def run_on_ray(
    orders: Orders, settings: TrainerSettings, resources: Mapping[str, float], callbacks: Sequence[Any]
) -> None:
    """Run `worker` on all ranks until it returns; attempts after a failure are Ray Train's work."""
    from ray.train import RunConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    from redi_ray.train.on_ray.elastic import ElasticTrainer

    storage.delete(orders.bookkeeping)
    make = partial(ElasticTrainer, orders=orders) if orders.grows else TorchTrainer
    trainer = make(
        worker_entry,
        train_loop_config={"orders": orders},
        torch_config=TorchConfig(
            backend="nccl" if settings.on_gpu else "gloo", timeout_s=settings.collective_timeout_s
        ),
        scaling_config=scaling_of(settings, resources),
        run_config=RunConfig(
            name=f"{Path(orders.out_uri).name}-{uuid.uuid4().hex[:6]}",  # never an old one: that would restore its state
            storage_path=orders.bookkeeping,
            failure_config=failures_of(settings),
            callbacks=list(callbacks),
        ),
    )
    try:
        with ray_train_environment(orders), saving_first() as asked, passing_on(asked, orders):
            trainer.fit()
        raise_refusal(orders)
        if asked.is_set():
            raise Preempted(f"ended by SIGTERM; {orders.name} is saved, and the same command goes on from there")
    except TrainingFailedError as error:
        raise_refusal(orders)
        if (failure := storage_failure(error)) is not None:
            raise failure from None
        raise TrainError(f"{orders.out_uri}: training failed: {error}") from error
    finally:
        with suppress(StorageError):  # it must not hide what was raised; the next call deletes it first
            storage.delete(orders.bookkeeping)


def raise_refusal(orders: Orders) -> None:
    """Raise what a worker has left word of, if one has."""
    refused = storage.join(orders.bookkeeping, REFUSED)
    if storage.exists(refused):
        told = storage.read_json(refused)
        kind = StorageError if told["storage"] else NonfiniteError if told["nonfinite"] else TrainRefused
        raise kind(told["error"])


@contextmanager
def passing_on(asked: threading.Event, orders: Orders) -> Iterator[None]:
    """While the block runs, `asked` becomes a file that the workers look for."""
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            if asked.wait(0.2):
                log.warning(
                    "SIGTERM: %s saves after its step and stops; a second one does not wait for that", orders.name
                )
                storage.write_bytes(storage.join(orders.bookkeeping, STOP), b"")
                return

    thread = threading.Thread(target=watch, name="stop", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()


def storage_failure(error: Exception) -> StorageError | None:
    """The StorageError of a worker that all attempts ended with, without Ray's traceback; None if it was another error."""
    for failure in getattr(error, "worker_failures", {}).values():
        found = getattr(failure, "_base_exc", failure)
        if isinstance(found, StorageError):
            return type(found)(str(found))
    return None


@contextmanager
def ray_train_environment(orders: Orders) -> Iterator[None]:
    """What Ray Train reads from the environment: poll workers often (its 2 s are a good part of a small run), no process
    that looks out for vanishing nodes where there is but one, and no long wait for room that was there when the number of
    ranks was chosen: a node has gone, and there is another number. What the user has set stays."""
    wanted = {
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": str(int(orders.watch_nodes)),
    }
    wanted |= {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20"} if orders.grows else {}
    added = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def worker_entry(config: dict[str, Any]) -> None:
    """What Ray pickles by name: the worker's imports stay off the driver."""
    from redi_ray.train.on_ray.worker import run

    run(config["orders"])


def read_outcome(out_uri: str) -> TrainOutcome | None:
    """The outcome of a finished run, None if it has not finished."""
    export_uri = storage.join(out_uri, "export")
    marker = storage.join(export_uri, "manifest.json")
    if not storage.exists(marker):
        return None
    found = storage.read_json(marker)
    metrics_uri, facts = storage.join(out_uri, "metrics.jsonl"), found["facts"]
    if "float32" in facts:  # wherever the folder lies now
        facts["float32"] = storage.join(out_uri, "float32")
    return TrainOutcome(export_uri, metrics_uri, found["steps"], found["status"], found["final"], facts)


def resolve_model(path: str) -> str:
    """A model path that workers find too. Raises ValueError where a folder has no model; hub names pass."""
    if path.startswith("s3://") or os.path.isdir(path):
        path = storage.resolve(path)
        if not storage.exists(storage.join(path, "config.json")):
            raise ValueError(f"{path}: no model is there (config.json is missing)")
    elif os.path.isabs(path) or path.startswith(".") or path.count("/") > 1:
        raise ValueError(f"{path}: no such folder")
    return path
