"""How vLLM is told what the settings say: its arguments, environment, Ray's resources, sampling parameters.

Imported by the driver too, so vLLM itself is imported in the engine's process alone (`redi_ray.data.sample.engine`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

from redi_ray.cluster.capacity import alive_nodes, selected
from redi_ray.config.engine_limits import ON_CPU, labelled_limits
from redi_ray.config.resources import EngineSettings
from redi_ray.data.sample.samples import Sampling, sample_seed

GPU_TYPE_LABEL = "ray.io/accelerator-type"
"""Ray's own label of a node."""


def engine_kwargs(engine: EngineSettings) -> dict[str, Any]:
    """Arguments of vLLM's engine but for the model and the scheduler's limits; the config's own come last."""
    kwargs: dict[str, Any] = {
        "dtype": engine.dtype,
        "tensor_parallel_size": engine.tensor_parallel_size,
        "disable_log_stats": True,
        # always, so that engines differ in their model alone; it looks only at requests that ask for it
        "scheduler_cls": "redi_ray.data.sample.scheduler.loop_stopping_scheduler",
    }
    if engine.max_model_len is not None:
        kwargs["max_model_len"] = engine.max_model_len
    if engine.device == "cpu":
        # a prompt that is read in parts winds the sample's random generator back, which ends the CPU engine
        kwargs |= {"enforce_eager": True, "enable_chunked_prefill": False}
    else:
        kwargs["gpu_memory_utilization"] = engine.gpu_memory_utilization
        if engine.world_size > 1:  # one actor holds all of its GPUs, on one node
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
        **({"stop": list(sampling.stop), "include_stop_str_in_output": True} if sampling.stop else {}),
        **({"extra_args": {"loops": asdict(sampling.loops)}} if sampling.loops.stop else {}),
    }


def expected_sequences(engine: EngineSettings) -> int:
    """`max_num_seqs` that an engine will have, as far as the driver can tell: by the labels of the connected Ray's nodes."""
    if engine.device == "cpu":
        return engine.limits(ON_CPU).sequences
    nodes = [node for node in alive_nodes() if selected(node, engine.label_selector)]
    types = {node["Labels"].get(GPU_TYPE_LABEL) for node in nodes if node["Resources"].get("GPU")}
    return engine.limits(labelled_limits({name for name in types if name})).sequences
