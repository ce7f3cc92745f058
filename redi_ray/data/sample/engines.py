"""How an engine is started, whoever starts it: vLLM's arguments, environment, Ray's resources, sampling parameters.

`redi_ray.data.sample.sampling` starts engines through ray.data.llm (for the teacher, the judge, an evaluation), a search has one
in a process of its own. Both take what this module makes of the same settings.

The scheduler's limits depend on the device, which the driver may not have, so they are found where the engine is: see `Limit`.
vLLM is imported in the engine's process alone.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from redi_ray.cluster.capacity import alive_nodes, selected
from redi_ray.cluster.notices import tell
from redi_ray.cluster.runtime import ENGINE_STAGE
from redi_ray.config.engine_limits import ON_CPU, ON_GPU, SchedulerLimits, labelled_limits
from redi_ray.config.resources import EngineSettings
from redi_ray.data.sample.samples import Sampling, sample_seed

GPU_TYPE_LABEL = "ray.io/accelerator-type"
"""Ray's own label of a node."""
TOO_FEW = "too small to saturate vLLM engine"
"""Of Ray's warning."""
LimitName = Literal["max_num_seqs", "max_num_batched_tokens"]


def engine_kwargs(engine: EngineSettings, *, stops_loops: bool = False) -> dict[str, Any]:
    """Arguments of vLLM's engine but for the model and the scheduler's limits; the config's own come last."""
    kwargs: dict[str, Any] = {
        "dtype": engine.dtype,
        "tensor_parallel_size": engine.tensor_parallel_size,
        "disable_log_stats": True,
    }
    if stops_loops:
        kwargs["scheduler_cls"] = "redi_ray.data.sample.scheduler.loop_stopping_scheduler"
    if engine.max_model_len is not None:
        kwargs["max_model_len"] = engine.max_model_len
    if engine.device == "cpu":
        # a prompt that is read in parts winds the sample's random generator back, which ends the CPU engine
        kwargs |= {"enforce_eager": True, "enable_chunked_prefill": False}
    else:
        kwargs["gpu_memory_utilization"] = engine.gpu_memory_utilization
        if engine.world_size > 1 and engine.label_selector:
            # one actor holds all GPUs, on a node with the labels; Ray's own placement groups take none
            kwargs["distributed_executor_backend"] = "mp"
    return {**kwargs, **engine.engine_kwargs}


def environment(engine: EngineSettings) -> dict[str, str]:
    """Environment variables of the engine's process, which vLLM reads when it is imported."""
    found = {"VLLM_LOGGING_LEVEL": "WARNING"}
    if engine.device == "cpu":
        found["VLLM_CPU_KVCACHE_SPACE"] = str(max(1, round(engine.kv_cache_gib)))
        found["OMP_NUM_THREADS"] = str(engine.cpu_threads)
        found["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"  # each replica would bind itself to the same first cores
        # the engine's process computes; a third one would take 12 s to import vLLM
        found["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    return found


def actor_options(engine: EngineSettings) -> dict[str, Any]:
    """Ray's options for an actor with a whole replica in it: CPUs, GPUs, labels, environment."""
    options: dict[str, Any] = {"num_cpus": engine.demand["CPU"], "runtime_env": {"env_vars": environment(engine)}}
    if "GPU" in engine.demand:
        options["num_gpus"] = engine.demand["GPU"]
    return {**options, "label_selector": dict(engine.label_selector) or None}


def start_engine(model: str, engine: EngineSettings) -> Any:
    """A `vllm.LLM` in this process, whose environment is that of `environment`. model: a local folder or a hub name."""
    from vllm import LLM
    from vllm.engine.arg_utils import AsyncEngineArgs, EngineArgs

    # users write for AsyncEngineArgs, which has a few more; a name that neither knows is vLLM's to refuse
    more = {field.name for field in fields(AsyncEngineArgs)} - {field.name for field in fields(EngineArgs)}
    kwargs = {name: value for name, value in engine_kwargs(engine).items() if name not in more}
    llm = LLM(model=model, **kwargs)  # which takes the limits of its device
    scheduler = llm.llm_engine.vllm_config.scheduler_config
    log_limits(SchedulerLimits(scheduler.max_num_seqs, scheduler.max_num_batched_tokens), engine.device)
    return llm


# -------------------------------------------------------------------------------------------------------- sampling parameters


class _FinalOutputOnly:
    """Becomes vLLM's `RequestOutputKind.FINAL_ONLY` where it is unpickled, so that only the engine's actor imports vLLM.

    By default the engine makes an output of each request at every step, which costs as much as detokenising it.
    """

    def __reduce__(self) -> tuple[Callable[[], Any], tuple[()]]:
        return _final_only, ()


def _final_only() -> Any:
    from vllm.sampling_params import RequestOutputKind

    return RequestOutputKind.FINAL_ONLY


def sampling_params(row: Mapping[str, Any], sampling: Sampling, ends: Collection[int]) -> dict[str, Any]:
    """What vLLM's SamplingParams of a REQUEST row are made of, but for `output_kind`. ends: ids that end a completion.

    Special tokens stay in the text, for `<think>` or a tool's tag may be one; the token that ends a completion never gets there.
    """
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "seed": sample_seed(sampling.seed, row["problem_id"], int(row["sample_index"])),
        "skip_special_tokens": False,
        "spaces_between_special_tokens": False,
        "stop_token_ids": sorted(ends),
        **({"extra_args": {"loops": asdict(sampling.loops)}} if sampling.loops.stop else {}),
    }


def remote_sampling_params(row: Mapping[str, Any], sampling: Sampling, ends: Collection[int]) -> dict[str, Any]:
    """The same, with `output_kind`, for an engine in another process."""
    return {**sampling_params(row, sampling, ends), "output_kind": _FinalOutputOnly()}


# --------------------------------------------------------------------------------------------------------- scheduler's limits


@dataclass(frozen=True)
class Limit:
    """Becomes the number, as `vllm.LLM` would have it on the device there, where an engine's actor unpickles it.

    Anywhere else it stays what it is, so that the driver neither imports vLLM nor takes its own device for the engine's.
    """

    name: LimitName
    model: str
    engine: EngineSettings

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _limit, (self.name, self.model, self.engine)

    def __deepcopy__(self, memo: Any) -> Limit:
        return self


def limited(kwargs: dict[str, Any], model: str, engine: EngineSettings) -> dict[str, Any]:
    """The arguments with both limits; those that are there stay, but for null, with which vLLM would fall back."""
    names: tuple[LimitName, ...] = ("max_num_seqs", "max_num_batched_tokens")
    missing: dict[str, Any] = {name: Limit(name, model, engine) for name in names if kwargs.get(name) is None}
    return {**kwargs, **missing}


def _limit(name: LimitName, model: str, engine: EngineSettings) -> Any:
    import ray

    if not ray.is_initialized() or ray.get_runtime_context().get_actor_id() is None:
        return Limit(name, model, engine)
    key = repr((model, engine))
    if key not in _found:
        _pass_warnings_on()
        _found[key] = device_limits(model, engine)
        log_limits(_found[key], engine.device)
    return _found[key].sequences if name == "max_num_seqs" else _found[key].tokens


_found: dict[str, SchedulerLimits] = {}
"""Limits of this process's engines."""


def device_limits(model: str, engine: EngineSettings) -> SchedulerLimits:
    """What `vllm.LLM` would take here; vLLM works it out, with the model's length and all of `engine_kwargs`."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.usage.usage_lib import UsageContext

    from redi_ray.modeling.tokenizer import local_folder

    backend = "ray" if engine.world_size > 1 else "uni"
    kwargs = {"distributed_executor_backend": backend, "runner": "generate", **engine_kwargs(engine)}
    try:
        with _gpus_in_sight():
            args = AsyncEngineArgs(model=local_folder(model), **kwargs)
            scheduler = args.create_engine_config(UsageContext.LLM_CLASS).scheduler_config
    except Exception:  # the engine, which is made of the same, fails next and says why
        return engine.limits(ON_CPU if engine.device == "cpu" else ON_GPU)
    return SchedulerLimits(scheduler.max_num_seqs, scheduler.max_num_batched_tokens)


@contextmanager
def _gpus_in_sight() -> Iterator[None]:
    """An actor whose engine's processes hold the GPUs sees none itself, and vLLM would take it for a small device."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") == ""
    if hidden:
        del os.environ["CUDA_VISIBLE_DEVICES"]
    try:
        yield
    finally:
        if hidden:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""


def log_limits(limits: SchedulerLimits, device: str) -> None:
    """One line for an engine that starts."""
    tell(f"engine on {device}: up to {limits.sequences} sequences at a time and {limits.tokens} tokens a step")


def _pass_warnings_on() -> None:
    """Let Ray's warning that too few rows are in flight for the engine reach the user: what actors log stays in files."""

    def look(record: logging.LogRecord) -> bool:
        if TOO_FEW in record.getMessage():
            tell(record.getMessage(), logging.WARNING)
        return True

    logging.getLogger(ENGINE_STAGE).addFilter(look)


def expected_sequences(engine: EngineSettings) -> int:
    """`max_num_seqs` that an engine will have, as far as the driver can tell: by the labels of the connected Ray's nodes."""
    if engine.device == "cpu":
        return engine.limits(ON_CPU).sequences
    nodes = [node for node in alive_nodes() if selected(node, engine.label_selector)]
    types = {node["Labels"].get(GPU_TYPE_LABEL) for node in nodes if node["Resources"].get("GPU")}
    return engine.limits(labelled_limits({name for name in types if name})).sequences
