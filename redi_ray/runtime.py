"""Connecting to Ray, logging, and the numbers of this machine."""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from redi_ray.config.resources import EngineSettings, RaySettings, ResourceSettings
from redi_ray.errors import UserError
from redi_ray.preemption import keeps_handler

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


SMALL_TASKS_CPUS = 1.0
"""Logical CPUs for the tasks around a pool of engines: requests, tokens, shards."""


class CapacityError(UserError):
    """The machine has less than the config asks for."""


def setup_logging() -> None:
    """Our log lines to stderr with the time; other libraries from warnings up."""
    handler = logging.StreamHandler()
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

    dashboard: a local Ray gets one; it is what Ray Train asks before it frees what a killed training held.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    for name, value in WORKER_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with keeps_handler():
        _connect(settings, dashboard)
    quiet_libraries()
    try:
        yield
    finally:
        ray.shutdown()


def _connect(settings: RaySettings, dashboard: bool) -> None:
    import ray

    address = settings.address or os.environ.get("RAY_ADDRESS")
    if address:
        environment = {"env_vars": WORKER_ENVIRONMENT}
        ray.init(address=address, runtime_env=environment, log_to_driver=False, logging_level=logging.ERROR)
        return
    ray.init(
        address="local",
        num_cpus=settings.num_cpus or max(8, os.cpu_count() or 1),
        object_store_memory=int(settings.object_store_gib * 2**30),
        include_dashboard=dashboard,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _temp_dir=os.path.join(tempfile.gettempdir(), "redi_ray"),
    )


def check_capacity(
    resources: ResourceSettings, engines: Mapping[str, EngineSettings], verify_processes: int = 1
) -> None:
    """Raise CapacityError if a Ray that cannot grow lacks what a stage will ask for: it would wait for ever.

    engines: the config's field -> each pool of engines in use. Beside the engines, verifiers and small tasks run at the
    same time. Call it while connected. A cluster that we joined may grow: there it is only said what is short now.
    """
    import ray

    have = ray.cluster_resources()
    trainer = resources.trainer
    asked: dict[str, dict[str, float]] = {
        "resources.trainer": {
            "GPU": trainer.num_workers * trainer.use_gpu,
            "CPU": trainer.num_workers * trainer.cpus_per_worker,
        },
        "resources.verify_workers": {"CPU": resources.verify_workers * verify_processes},
        "resources.curate_workers": {"CPU": resources.curate_workers},
    }
    for field, engine in engines.items():
        needs = {name: engine.pool[0] * sum(b.get(name, 0.0) for b in engine.bundles) for name in ("GPU", "CPU")}
        asked[f"{field} (with the tasks beside it)"] = {
            **needs,
            "CPU": needs["CPU"] + verify_processes + SMALL_TASKS_CPUS,
        }
    short = [
        f"{field} asks for {amount:g} {name}, Ray has {have.get(name, 0):g}"
        for field, needs in asked.items()
        for name, amount in needs.items()
        if amount > have.get(name, 0)
    ]
    if short and (resources.ray.address or os.environ.get("RAY_ADDRESS")):
        log.warning("%s. The stage waits until the cluster has grown", "; ".join(short))
    elif short:
        hint = "use device: cpu and use_gpu: false, fewer workers, resources.ray.num_cpus, or a cluster (resources.ray.address)"
        raise CapacityError("; ".join(short) + f". Mend: {hint}")


def user_error(error: Exception) -> UserError | None:
    """The UserError that ended a Ray task, without what Ray Data adds to its message; None if another error did."""
    cause = getattr(error, "cause", None)
    return type(cause)(str(cause).partition("\nFailed to apply UDF")[0]) if isinstance(cause, UserError) else None


def quiet_libraries() -> None:
    """Keep Ray's own progress and advice off the terminal: our stages report in one place."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True  # or a UserError would arrive as text
    for noisy in ("ray.data", "ray._private", "ray.llm", "ray.train", "vllm", "transformers", "httpx"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    logging.getLogger("ray.llm").addHandler(logging.NullHandler())  # without one, each of its modules adds its own
