"""Sampling with vLLM through `ray.data.llm`.

One row is one sample (the engine's own `n` would keep the first output only), with a seed of its own, so a sample does
not depend on which others are in flight or on which replica it lands. Prompts go in as token ids, the very ids that
training uses. An engine whose process dies takes its actor with it; Ray starts another and asks the open requests again,
which have their seeds, so that the same texts come out.

The small tasks on either side of the engine import this module too, hence transformers is imported only where it is used:
it costs every worker process six seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pyarrow as pa
import ray.data

from redi_ray.cluster.notices import listen
from redi_ray.config.loops import LoopSettings
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.resources import EngineSettings
from redi_ray.data.sample.engines import (
    actor_options,
    engine_kwargs,
    expected_sequences,
    limited,
    remote_sampling_params,
)
from redi_ray.data.sample.samples import COMPLETION, REQUEST, TASK_CPUS, Sampler, Sampling
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
            fn_constructor_args=(model, prompt, engine.trusts_code),
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

    def __init__(self, model: str, prompt: PromptSettings, trust_remote_code: bool = False) -> None:
        from redi_ray.modeling.tokenizer import load_tokenizer

        self.tokenizer = load_tokenizer(model, trust_remote_code)
        self.prompt = prompt

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        ids = lru_cache(maxsize=1)(
            lambda problem: prompt_ids(to_messages(problem, self.prompt), self.tokenizer, self.prompt)
        )
        batch["tokenized_prompt"] = [ids(problem) for problem in batch["problem"]]
        return batch


def _engine_processor(
    model: str, engine: EngineSettings, sampling: Sampling, prefix: str
) -> Callable[[ray.data.Dataset], ray.data.Dataset]:
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    from redi_ray.modeling.tokenizer import end_of_turn_ids

    listen()
    sequences, own = expected_sequences(engine), actor_options(engine)
    config = vLLMEngineProcessorConfig(
        model_source=model,
        engine_kwargs=limited(engine_kwargs(engine, stops_loops=sampling.loops.stop), model, engine),
        concurrency=engine.pool,  # a plain number would be Ray's [1, number]
        batch_size=engine.batch_size,
        max_concurrent_batches=engine.batches_in_flight(sequences),
        placement_group_config={"bundles": engine.bundles},
        runtime_env=own["runtime_env"],
        log_engine_metrics=False,
        should_continue_on_error=True,
        chat_template_stage=False,
        tokenize_stage=False,
        detokenize_stage=False,
    )
    ends = end_of_turn_ids(model, engine.trusts_code)
    processor = build_processor(
        config,
        preprocess=lambda row: {"sampling_params": remote_sampling_params(row, sampling, ends)},
        postprocess=lambda row: _keep_columns(row, prefix, ends, sampling.loops),
        preprocess_map_kwargs=small_tasks(engine),
        postprocess_map_kwargs=small_tasks(engine),
    )
    options = processor.get_stage_by_name("vLLMEngineStage").map_batches_kwargs
    options["max_restarts"] = engine.max_restarts
    options["label_selector"] = own["label_selector"]
    return processor


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
