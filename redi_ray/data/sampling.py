"""Sampling with vLLM through `ray.data.llm`.

One row is one sample (the engine's own `n` would keep the first output only), with a seed of its own, so a sample does
not depend on which others are in flight or on which replica it lands. Prompts go in as token ids, the very ids that
training uses. An engine whose process dies takes its actor with it; Ray starts another and asks the open requests again,
which have their seeds, so that the same texts come out.

The small tasks on either side of the engine import this module too, hence transformers is imported only where it is used:
it costs every worker process six seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import lru_cache, partial
from typing import Any

import pyarrow as pa
import ray.data

from redi_ray.config.loops import LoopSettings
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.resources import EngineSettings
from redi_ray.data.samples import COMPLETION, REQUEST, TASK_CPUS, Sampler, Sampling, sample_seed
from redi_ray.text.loops import token_loop
from redi_ray.text.prompts import to_messages
from redi_ray.text.tokens import prompt_ids

REFUSALS = ("VLLMValidationError", "ValueError")
"""Names of the errors that a request itself is to blame for; it is not asked again."""


def vllm_sampler(model: str, engine: EngineSettings, sampling: Sampling, prompt: PromptSettings) -> Sampler:
    """A sampler that runs its own engines. model: a local Hugging Face folder that every node sees, or a hub name."""

    def sample(requests: ray.data.Dataset) -> ray.data.Dataset:
        prepared = requests.map_batches(
            _Tokenize,
            fn_constructor_args=(model, prompt),
            batch_size=256,
            compute=ray.data.ActorPoolStrategy(size=1),
            num_cpus=TASK_CPUS,
        )
        # a block is a batch is an engine's task: what is retried when an engine dies
        blocks = prepared.repartition(target_num_rows_per_block=engine.batch_size, strict=True)
        engines = _engine_processor(model, engine, sampling, prompt.prefix)
        answers = engines(blocks)  # in the order in which batches finish
        return answers.map_batches(_to_completions, batch_size=None, batch_format="pyarrow", **small_tasks(engine))

    return sample


def small_tasks(engine: EngineSettings) -> dict[str, Any]:
    """Ray Data's arguments for the steps around the engines: two tasks at a time for each replica keep it busy.

    Without a bound Ray starts a process for every batch that waits, and on a small machine those starts, three seconds
    each, slow that of the engine.
    """
    return {"num_cpus": TASK_CPUS, "compute": ray.data.TaskPoolStrategy(size=2 * engine.pool[1])}


class _Tokenize:
    """Adds the prompt's token ids to each row."""

    def __init__(self, model: str, prompt: PromptSettings) -> None:
        from redi_ray.modeling.tokenizer import load_tokenizer

        self.tokenizer = load_tokenizer(model)
        self.prompt = prompt

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        ids = lru_cache(maxsize=1)(
            lambda problem: prompt_ids(to_messages(problem, self.prompt), self.tokenizer, self.prompt)
        )
        batch["tokenized_prompt"] = [ids(problem) for problem in batch["problem"]]
        return batch


class _FinalOutputOnly:
    """Becomes vLLM's `RequestOutputKind.FINAL_ONLY` where it is unpickled, so that only the engine's actor imports vLLM.

    By default the engine makes an output of each request at every step, which costs as much as detokenising it.
    """

    def __reduce__(self) -> tuple[Callable[[], Any], tuple[()]]:
        return _final_only, ()


def _final_only() -> Any:
    from vllm.sampling_params import RequestOutputKind

    return RequestOutputKind.FINAL_ONLY


def _sampling_params(row: dict[str, Any], sampling: Sampling) -> dict[str, Any]:
    """What vLLM's SamplingParams are made of."""
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "seed": sample_seed(sampling.seed, row["problem_id"], int(row["sample_index"])),
        "skip_special_tokens": True,
        "output_kind": _FinalOutputOnly(),
        **({"extra_args": {"loops": asdict(sampling.loops)}} if sampling.loops.stop else {}),
    }


def _engine_processor(
    model: str, engine: EngineSettings, sampling: Sampling, prefix: str
) -> Callable[[ray.data.Dataset], ray.data.Dataset]:
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    from redi_ray.modeling.tokenizer import end_of_turn_ids

    config = vLLMEngineProcessorConfig(
        model_source=model,
        engine_kwargs=_engine_kwargs(engine, sampling),
        concurrency=engine.pool,  # a plain number would be Ray's [1, number]
        batch_size=engine.batch_size,
        max_concurrent_batches=engine.max_concurrent_batches,
        placement_group_config={"bundles": engine.bundles},
        runtime_env={"env_vars": _environment(engine)},
        log_engine_metrics=False,
        should_continue_on_error=True,
        chat_template_stage=False,
        tokenize_stage=False,
        detokenize_stage=False,
    )
    ends = end_of_turn_ids(model)
    processor = build_processor(
        config,
        preprocess=lambda row: {"sampling_params": {**_sampling_params(row, sampling), "stop_token_ids": sorted(ends)}},
        postprocess=lambda row: _keep_columns(row, prefix, ends, sampling.loops),
        preprocess_map_kwargs=small_tasks(engine),
        postprocess_map_kwargs=small_tasks(engine),
    )
    options = processor.get_stage_by_name("vLLMEngineStage").map_batches_kwargs
    options["max_restarts"] = engine.max_restarts
    if engine.label_selector:
        pin(options, engine.label_selector)
    return processor


def pin(options: dict[str, Any], selector: Mapping[str, str]) -> None:
    """Add the labels to what the engine stage tells Ray Data of its actors.

    With several GPUs to a replica Ray's function makes a placement group for it. The processor's config lets no labels
    through to there, the group's own arguments, which are the last of that function's, take them.
    """
    if "ray_remote_args_fn" not in options:
        options["label_selector"] = dict(selector)
        return
    make = options["ray_remote_args_fn"]
    *before, group = make.args
    labelled = {**group, "bundle_label_selector": [dict(selector) for _ in group["bundles"]]}
    options["ray_remote_args_fn"] = partial(make.func, *before, labelled)


def _engine_kwargs(engine: EngineSettings, sampling: Sampling) -> dict[str, Any]:
    """Arguments of vLLM's engine; the config's own come last."""
    kwargs: dict[str, Any] = {
        "dtype": engine.dtype,
        "tensor_parallel_size": engine.tensor_parallel_size,
        "disable_log_stats": True,
    }
    if engine.max_model_len is not None:
        kwargs["max_model_len"] = engine.max_model_len
    if sampling.loops.stop:
        kwargs["scheduler_cls"] = "redi_ray.data.scheduler.loop_stopping_scheduler"
    if engine.device == "cpu":
        # a prompt that is read in parts winds the sample's random generator back, which ends the CPU engine
        kwargs |= {"enforce_eager": True, "enable_chunked_prefill": False}
    else:
        kwargs["gpu_memory_utilization"] = engine.gpu_memory_utilization
    return {**kwargs, **engine.engine_kwargs}


def _environment(engine: EngineSettings) -> dict[str, str]:
    found = {"VLLM_LOGGING_LEVEL": "WARNING"}
    if engine.device == "cpu":
        found["VLLM_CPU_KVCACHE_SPACE"] = str(max(1, round(engine.kv_cache_gib)))
        found["OMP_NUM_THREADS"] = str(engine.cpu_threads)
        found["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"  # each replica would bind itself to the same first cores
        # the engine's process computes; a third one would take 12 s to import vLLM
        found["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    return found


def _keep_columns(row: dict[str, Any], prefix: str, end_ids: frozenset[int], loops: LoopSettings) -> dict[str, Any]:
    """What goes on to the shard; rows that failed do not come here."""
    tokens = [int(token) for token in row["generated_tokens"]]
    return {
        **{name: row[name] for name in REQUEST.names},
        "completion": prefix + row["generated_text"],
        "num_tokens": len(tokens),
        "prompt_tokens": row["num_input_tokens"],
        "finish_reason": finish_reason(tokens, end_ids, loops),
    }


def finish_reason(tokens: list[int], end_ids: frozenset[int], loops: LoopSettings) -> str:
    """`stop`, `length` or `loop`. ray.data.llm passes none: a completion is whole if its last token ends it."""
    if tokens and tokens[-1] in end_ids:
        return "stop"
    return "loop" if token_loop(tokens, loops) else "length"


def _to_completions(answers: pa.Table) -> pa.Table:
    """Answers and failures, which have other columns, as COMPLETION rows."""
    rows = [row if not row["__inference_error__"] else _to_failure(row) for row in answers.to_pylist()]
    return pa.Table.from_pylist(rows, schema=COMPLETION)


def _to_failure(row: dict[str, Any]) -> dict[str, Any]:
    detail = row["__inference_error__"]
    refused = detail.partition(":")[0] in REFUSALS
    told = {"failure": "refused_by_engine" if refused else "engine_error", "detail": detail, "retry": not refused}
    return {**{name: row[name] for name in REQUEST.names}, **told}
