"""Connecting to Ray, and logging."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redi_ray.cluster import joining
from redi_ray.cluster.preemption import keeps_handler
from redi_ray.config.resources import RaySettings
from redi_ray.errors import UserError

# Read when Ray is imported. A thread that still asks it for something after the end must not start another one.
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")

log = logging.getLogger("redi_ray")

WORKER_ENVIRONMENT = {
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # Ray's core writes harmless errors over the progress bars; unset it to debug Ray
    "TOKENIZERS_PARALLELISM": "false",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a trial of a search reads the same relative paths as the driver
    "TRANSFORMERS_VERBOSITY": "error",
}


LOG_LEVEL_LINE = b"Set ray log level from environment variable"
"""Ray's core says this of the level above, before it is in force."""


class AboveBars(logging.StreamHandler):
    """Writes to what stderr is at the time; on a terminal above the progress bars, which would else be torn."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)  # StreamHandler's own would keep the stream of this moment

    @property
    def stream(self) -> Any:  # type: ignore[override]
        return sys.stderr

    def emit(self, record: logging.LogRecord) -> None:
        if not sys.stderr.isatty():
            super().emit(record)
            return
        from tqdm import tqdm

        tqdm.write(self.format(record), file=sys.stderr)


def setup_logging() -> None:
    """Our log lines to stderr with the time; other libraries from warnings up."""
    handler = AboveBars()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    log.handlers = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False
    warnings.filterwarnings("ignore", category=FutureWarning)


@contextmanager
def quiet() -> Iterator[None]:
    """No log lines of ours inside the block, such as those about stages that are looked up and reused."""
    log.disabled = True
    try:
        yield
    finally:
        log.disabled = False


@contextmanager
def ray_connection(settings: RaySettings, *, dashboard: bool = False) -> Iterator[None]:
    """Connected to Ray inside the block. A local Ray started here is stopped at the end, a cluster is left alone.

    dashboard: a local Ray gets one; it is what Ray Train asks before it frees what a killed training held. Raises
    RayUnreachable.
    """
    import ray

    from redi_ray.cluster import notices

    if ray.is_initialized():
        yield
        return
    os.environ.update(settings.env)
    for name, value in WORKER_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with keeps_handler(), without_line(LOG_LEVEL_LINE):
        _connect(settings, dashboard)
    quiet_libraries()
    try:
        yield
    finally:
        # threads that are cut off here would say so at length
        logging.getLogger("ray.data").setLevel(logging.CRITICAL + 1)
        notices.stop()
        ray.shutdown()


@contextmanager
def without_line(unwanted: bytes) -> Iterator[None]:
    """What is written to stderr inside the block, by C++ too, comes behind it, without the lines that hold `unwanted`."""
    try:
        kept = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            caught.seek(0)
            for line in caught:
                if unwanted not in line:
                    os.write(2, line)


def _connect(settings: RaySettings, dashboard: bool) -> None:
    if address := settings.address or os.environ.get("RAY_ADDRESS"):
        joining.join(address, {**WORKER_ENVIRONMENT, **settings.env})
    else:
        joining.start(settings, dashboard)


def user_error(error: Exception) -> UserError | None:
    """The UserError that ended a Ray task, without what Ray Data adds to its message; None if another error did."""
    cause = getattr(error, "cause", None)
    return type(cause)(str(cause).partition("\nFailed to apply UDF")[0]) if isinstance(cause, UserError) else None


def quiet_transformers() -> None:
    """Keep the progress bars and advice of transformers and the hub off the terminal; call it before they are imported."""
    for name in ("TRANSFORMERS_VERBOSITY", "HF_HUB_DISABLE_PROGRESS_BARS", "TOKENIZERS_PARALLELISM"):
        os.environ.setdefault(name, WORKER_ENVIRONMENT[name])


def quiet_libraries() -> None:
    """Keep Ray's own progress and advice off the terminal: our stages report in one place."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True  # or a UserError would arrive as text
    warnings.filterwarnings("ignore", message="The maximum number of concurrent tasks")  # on having less work than room
    # Tune complains that trials have left no files of its own, which ours are told not to make
    tune = ("ray.tune.tune", "ray.tune.analysis")
    for noisy in ("ray.data", "ray._private", "ray.train", *tune, "vllm", "transformers", "httpx"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
