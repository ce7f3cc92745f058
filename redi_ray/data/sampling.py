"""Sampling traces with vLLM through `ray.data.llm`: rows of (problem, sample_index) in, Parquet shards of traces out.

One row is one sample (the engine's own `n` would keep the first output only), with a seed of its own, so a sample does
not depend on which others are in flight or on which replica it lands. Prompts go in as token ids, the very ids that
training uses. Every shard is written whole by the task that has its rows; on resume the trace ids found in finished
shards are left out, and the rest is sampled.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data

from redi_ray import storage
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.resources import EngineSettings
from redi_ray.modeling.tokenizer import end_of_turn_ids, load_tokenizer
from redi_ray.schemas import REJECT, TRACE, trace_id
from redi_ray.text.prompts import to_messages
from redi_ray.text.tokens import prompt_ids


@dataclass(frozen=True)
class Sampling:
    """How one trace is drawn. `seed` is the root of all samples' seeds."""

    temperature: float
    top_p: float
    max_tokens: int
    seed: int


@dataclass(frozen=True)
class SampleStats:
    """What a sampling pass did. `asked = traces + sum(rejected)`, resumed ones included."""

    asked: int
    traces: int
    resumed: int
    tokens: int
    rejected: dict[str, int]


Progress = Callable[[int, int], None]
"""Called with (traces, tokens) that have just been written."""


def sample_seed(root: int, problem_id: str, sample_index: int) -> int:
    """The seed of one sample: 31 bits of a hash, so that it depends on nothing but these three."""
    digest = hashlib.blake2b(f"{root}/{problem_id}/{sample_index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) % 2**31


def sample_traces(
    requests: pa.Table,
    *,
    model: str,
    engine: EngineSettings,
    sampling: Sampling,
    prompt: PromptSettings,
    out_uri: str,
    shard_rows: int,
    on_progress: Progress = lambda traces, tokens: None,
) -> SampleStats:
    """Sample every request into `<out_uri>/part-*.parquet` (TRACE schema), rejects into `<out_uri>/rejects`.

    requests: PROBLEM columns + `sample_index`, see `explode`. model: a local Hugging Face folder that every node sees,
    or a hub name.
    """
    done, asked = finished_ids(out_uri), requests.num_rows
    requests = without(requests, done)
    rejected: Counter[str] = Counter()
    traces = tokens = 0
    if requests.num_rows:
        blocks = max(1, min(200, requests.num_rows // engine.batch_size))
        dataset = ray.data.from_arrow(requests).repartition(blocks)
        dataset = dataset.map_batches(
            _Prepare,
            fn_constructor_args=(model, prompt, sampling),
            batch_size=256,
            compute=ray.data.ActorPoolStrategy(size=1),
            num_cpus=0.5,
        )
        dataset = _engine_processor(model, engine)(dataset)  # answers in the order in which they finish
        write = partial(_write_shard, out_uri=out_uri, model=model, sampling=sampling)
        dataset = dataset.map_batches(write, batch_size=shard_rows, batch_format="pyarrow", num_cpus=0.5)
        for row in dataset.iter_rows():
            traces, tokens = traces + row["traces"], tokens + row["tokens"]
            rejected.update(json.loads(row["rejected"]))
            on_progress(row["traces"], row["tokens"])
    return SampleStats(asked, traces + len(done), len(done), tokens, dict(rejected))


def finished_ids(out_uri: str) -> set[str]:
    """Trace ids in the shards that are there."""
    shards = [uri for uri in storage.list_files(out_uri, ".parquet") if "/rejects/" not in uri]
    return {value for table in storage.read_tables(shards, ["trace_id"]) for value in table["trace_id"].to_pylist()}


def explode(problems: pa.Table, indices: range) -> pa.Table:
    """One row per problem and sample index; a problem's samples stay together, so that they share the prefix cache."""
    rows = np.repeat(np.arange(problems.num_rows), len(indices))
    samples = np.tile(np.asarray(indices, dtype=np.int64), problems.num_rows)
    return problems.take(pa.array(rows)).append_column("sample_index", pa.array(samples, pa.int64()))


def without(requests: pa.Table, done: set[str]) -> pa.Table:
    """The requests whose trace is not there yet."""
    if not done:
        return requests
    pairs = zip(requests["problem_id"].to_pylist(), requests["sample_index"].to_pylist(), strict=True)
    return requests.filter(pa.array([trace_id(problem_id, index) not in done for problem_id, index in pairs]))


class _Prepare:
    """Adds the prompt's token ids and the sampling parameters to each row."""

    def __init__(self, model: str, prompt: PromptSettings, sampling: Sampling) -> None:
        self.tokenizer = load_tokenizer(model)
        self.prompt, self.sampling = prompt, sampling

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        ids = lru_cache(maxsize=1)(
            lambda problem: prompt_ids(to_messages(problem, self.prompt), self.tokenizer, self.prompt)
        )
        batch["tokenized_prompt"] = [ids(problem) for problem in batch["problem"]]
        batch["sampling_params"] = [
            {
                "temperature": self.sampling.temperature,
                "top_p": self.sampling.top_p,
                "max_tokens": self.sampling.max_tokens,
                "seed": sample_seed(self.sampling.seed, problem_id, int(index)),
                "skip_special_tokens": True,
            }
            for problem_id, index in zip(batch["problem_id"], batch["sample_index"], strict=True)
        ]
        batch["forced_prefix"] = [self.prompt.prefix] * len(batch["problem"])
        return batch


def _engine_processor(model: str, engine: EngineSettings) -> Callable[[ray.data.Dataset], ray.data.Dataset]:
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    kwargs: dict[str, Any] = {"dtype": engine.dtype, "tensor_parallel_size": engine.tensor_parallel_size}
    if engine.max_model_len is not None:
        kwargs["max_model_len"] = engine.max_model_len
    environment: dict[str, str] = {"VLLM_LOGGING_LEVEL": "WARNING"}
    if engine.device == "cpu":
        kwargs["enforce_eager"] = True
        environment["VLLM_CPU_KVCACHE_SPACE"] = str(max(1, round(engine.kv_cache_gib)))
        bundles = [{"CPU": 1.0}]
    else:
        kwargs["gpu_memory_utilization"] = engine.gpu_memory_utilization
        bundles = [{"CPU": 1.0, "GPU": 1.0}] * engine.tensor_parallel_size
    config = vLLMEngineProcessorConfig(
        model_source=model,
        engine_kwargs={**kwargs, "disable_log_stats": True, **engine.engine_kwargs},
        concurrency=engine.concurrency,
        batch_size=engine.batch_size,
        max_concurrent_batches=engine.max_concurrent_batches,
        placement_group_config={"bundles": bundles},
        runtime_env={"env_vars": environment},
        log_engine_metrics=False,
        should_continue_on_error=True,
        chat_template_stage=False,
        tokenize_stage=False,
        detokenize_stage=False,
    )
    ends = end_of_turn_ids(model)
    return build_processor(config, postprocess=lambda row: _keep_columns(row, ends))


_KEPT = ("problem_id", "problem", "answer", "source", "sample_index", "forced_prefix", "generated_text")


def _keep_columns(row: dict[str, Any], end_ids: frozenset[int]) -> dict[str, Any]:
    """What goes on to the shard. ray.data.llm passes no finish reason: a completion is whole if its last token ends it."""
    tokens = row["generated_tokens"]
    ended = len(tokens) > 0 and int(tokens[-1]) in end_ids
    kept = {name: row[name] for name in _KEPT}
    return {**kept, "num_tokens": len(tokens), "finish_reason": "stop" if ended else "length"}


def _write_shard(batch: pa.Table, out_uri: str, model: str, sampling: Sampling) -> dict[str, list[Any]]:
    """Write one shard of traces, and one of rejects if there are any; returns one row of counts."""
    traces, rejects = [], []
    rows = batch.to_pylist()
    for row in rows:
        identity = trace_id(row["problem_id"], row["sample_index"])
        if row.get("__inference_error__"):
            rejects.append(
                {"where": identity, "reason": "engine_error", "detail": row["__inference_error__"], "raw": ""}
            )
        else:
            traces.append(_to_trace(row, identity, model, sampling))
    # named by its content: a task that Ray runs again overwrites its own shard instead of doubling it
    ids = "\n".join(sorted(trace_id(row["problem_id"], row["sample_index"]) for row in rows))
    name = f"part-{hashlib.sha256(ids.encode()).hexdigest()[:20]}.parquet"
    if rejects:
        storage.write_table(storage.join(out_uri, "rejects", name), pa.Table.from_pylist(rejects, schema=REJECT))
    if traces:
        storage.write_table(storage.join(out_uri, name), pa.Table.from_pylist(traces, schema=TRACE))
    reasons = Counter(reject["reason"] for reject in rejects)
    tokens = sum(trace["num_tokens"] for trace in traces)
    return {"traces": [len(traces)], "tokens": [tokens], "rejected": [json.dumps(reasons)]}


def _to_trace(row: dict[str, Any], identity: str, model: str, sampling: Sampling) -> dict[str, Any]:
    parameters = {"temperature": sampling.temperature, "top_p": sampling.top_p, "max_tokens": sampling.max_tokens}
    seed = sample_seed(sampling.seed, row["problem_id"], row["sample_index"])
    return {
        **{name: row[name] for name in TRACE.names if name in row},
        "trace_id": identity,
        "completion": row["forced_prefix"] + row["generated_text"],
        "model": model,
        "sampling": json.dumps({**parameters, "seed": seed}),
        "votes": None,
    }
