"""What the command line and `jobs/` share: load the config, check it against the world, connect, run, report errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from redi_ray.cli.checked import CheckOfGraph, checked_config
from redi_ray.cli.preflight import preflight
from redi_ray.cluster.capacity import check_capacity, require_room
from redi_ray.cluster.devices import with_devices
from redi_ray.cluster.exits import clear_errors, exit_code_of
from redi_ray.cluster.notify import told_to_others
from redi_ray.cluster.preemption import end_main_thread, ends_on_sigterm
from redi_ray.cluster.runtime import log, ray_connection, setup_logging, user_error
from redi_ray.config.experiment import ExperimentConfig
from redi_ray.errors import StorageError
from redi_ray.store import storage
from redi_ray.store.ending import Ending, clear_ending, write_ending
from redi_ray.store.lock import LockLost, run_lock

if TYPE_CHECKING:
    from redi_ray.pipeline.runner import Pipeline


@contextmanager
def writing(run_uri: str) -> Iterator[None]:
    """Inside the block this process alone writes the run, and SIGTERM ends it in order. Enter it before Ray starts.

    Raises RunLocked if another driver writes it, StorageError if its place cannot be written; in the block LockLost if
    another driver has taken the run over.
    """
    with ends_on_sigterm(), run_lock(run_uri, on_lost=end_main_thread):
        storage.check_writable(run_uri)
        yield


@contextmanager
def remembered(run_uri: str) -> Iterator[None]:
    """What ends the block is kept in the run's folder, for those who look at it later; nothing is after a good end."""
    try:
        yield
    except LockLost:
        raise  # the run is another's
    except BaseException as error:
        told = (user_error(error) if isinstance(error, Exception) else None) or error
        told.__notes__ = list(getattr(error, "__notes__", ()))
        with suppress(StorageError):
            write_ending(run_uri, Ending.of(told, exit_code_of(told)))
        raise
    clear_ending(run_uri)


def run_stages(
    config_uri: str,
    overrides: list[str],
    call: Callable[[Pipeline], str],
    check: CheckOfGraph | None = None,
) -> None:
    """Load and check a config, connect to Ray, call one or more stages, and print the line that `call` returns.

    check: what must be there in the config and its graph, or it raises before anything starts.
    """
    setup_logging()
    with clear_errors():
        config = checked_config(config_uri, overrides, preflight, of_graph=check)
        if config.search is not None:
            log.info("search: left aside; `redi-ray tune` runs it")
        from redi_ray.pipeline.runner import Pipeline

        with (
            writing(config.run_uri),
            remembered(config.run_uri),
            told_to_others(config) as ending,
            ray_connection(config.resources.ray),
        ):
            config = with_devices(config)
            check_room(config)
            pipeline = Pipeline(config)
            print(call(pipeline))
            ending.facts.update(event_facts(pipeline))


def event_facts(pipeline: Pipeline) -> dict[str, Any]:
    """What those who hear of the end, if anybody does, are told besides: time, tokens and cost so far, scores."""
    from redi_ray.report.spent import plain, spent

    if not pipeline.config.notify.wants("done"):
        return {}
    return {"spent": plain(spent(pipeline.run, pipeline.graph)), "scores": pipeline.scores()}


def check_room(config: ExperimentConfig) -> None:
    """Raise CapacityError where a stage would wait for ever for what the connected Ray does not have, see `check_capacity`.

    The memory of ranks is among it, or it would be missed only when all traces are there.
    """
    from redi_ray.modeling.limits import FLOAT32
    from redi_ray.search.capacity import float32_copy
    from redi_ray.train.on_ray.room import rank_bytes

    check_capacity(config.resources, config.engines, config.verify.processes, config.trainers)
    parameters, adapters = int(float32_copy(config) / FLOAT32), config.model.overrides.lora is not None
    for field, trainer in config.trainers.items():
        held = float(rank_bytes(parameters, trainer.pool[0], trainer.on_gpu, adapters))
        require_room(field, [{"memory": held}] * trainer.pool[0], trainer.label_selector)
