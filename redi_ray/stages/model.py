"""Where the student starts: a model that exists, the built-in world's base model, or random weights."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from redi_ray.config.names import BASE
from redi_ray.config.objectives import SftObjective
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.student import ArithmeticModel, ModelInit, PretrainedModel, ScratchModel
from redi_ray.config.training import ModelOverrides
from redi_ray.config.worlds import BuiltInSource
from redi_ray.data.sources.built_in import alphabet_of, corpus_of
from redi_ray.modeling.tokenizer import (
    character_tokenizer,
    content_of_model,
    is_folder,
    load_tokenizer,
    train_bpe_tokenizer,
)
from redi_ray.stages.launch import train_with_progress
from redi_ray.stages.run import Run
from redi_ray.store import parquet, storage
from redi_ray.store.manifests import Manifest, Stage
from redi_ray.text.prompts import to_messages
from redi_ray.text.recorded import RECORDED, record_problems
from redi_ray.text.spans import own_weights
from redi_ray.text.turns import encode_turns
from redi_ray.train.records import SequenceRecord
from redi_ray.train.sequences import SequenceStore

TOKENIZER_SAMPLE = 20_000
"""Problems and traces that a from-scratch tokenizer is learnt from."""
READ = {
    "traces": ["problem", "completion"],
    "pairs": ["prompt", "chosen", "rejected"],
    "examples": ["messages"],
    "groups": ["prompt", "members"],
}
"""Tables that it may be learnt from, and their columns of text."""
SOME_PROBLEM = "What is 1 + 1?"
"""Whose prompt is recorded where a run has no problems."""


def base(
    run: Run,
    problems: Manifest | None,
    texts: Mapping[str, Manifest],
    init: ModelInit | None = None,
    name: str = BASE,
) -> Manifest:
    """The model before stage 1; `facts["export"]` is its Hugging Face folder (or hub name), `facts["prompt"]` a record of
    the prompts that it makes of some problems.

    texts: traces or imported sets, needed for random weights, whose tokenizer is learnt from them. init, name: of another model
    than the student, such as a teacher.
    """
    prompt, stage = run.config.model.prompt, base_stage(run, texts, init, name)
    init = init or run.config.model.init
    if isinstance(init, PretrainedModel):
        export = storage.resolve(init.path) if is_folder(init.path) else init.path
        if found := run.reuse(stage):
            return replace(
                found, facts={**found.facts, "export": export}
            )  # what it holds counts, and it may lie elsewhere now
        tokenizer = load_tokenizer(export, run.config.model.overrides.trust_remote_code)
        some = [SOME_PROBLEM] if problems is None else _first_problems(problems.files("problems"))
        recorded = record_problems(some, tokenizer, prompt)
        return run.publish(stage, time.monotonic(), facts={"export": export, "prompt": recorded})
    if isinstance(init, ArithmeticModel):
        return _arithmetic(run, init, stage)
    assert texts, "random weights need texts for their tokenizer"
    return _scratch(run, init, texts, stage)


def base_stage(
    run: Run, texts: Mapping[str, Manifest | Stage], init: ModelInit | None = None, name: str = BASE
) -> Stage:
    init = init or run.config.model.init
    deciding: dict[str, Any] = {"model": init, "prompt": run.config.model.prompt}
    if isinstance(init, PretrainedModel):
        deciding["content"] = content_of_model(init.path)
    if isinstance(init, ArithmeticModel):
        deciding["source"] = run.config.problems.source
    inputs = texts if isinstance(init, ScratchModel) else {}
    return run.stage(f"checkpoints/{name}", deciding, inputs)


def _arithmetic(run: Run, init: ArithmeticModel, stage: Stage) -> Manifest:
    import ray

    source = run.config.problems.source
    assert isinstance(source, BuiltInSource)
    if found := run.reuse(stage):
        return found
    started = time.monotonic()
    initial, arrays = storage.join(stage.uri, "initial"), storage.join(stage.uri, "arrays")
    prepare = ray.remote(num_cpus=1, max_retries=2)(_prepare_world_training)
    parameters, recorded = ray.get(prepare.remote(init, source, run.config.model.prompt, initial, arrays))
    outcome = train_with_progress(
        label=f"train {stage.name.removeprefix('checkpoints/')}",
        model=initial,
        overrides=ModelOverrides(),
        arrays=arrays,
        num_groups=init.corpus_size,
        objective=SftObjective(),
        settings=init.train,
        out_uri=stage.uri,
        trainer=run.config.resources.trainer,
        keep_float32=True,  # stage 1 starts from it
    )
    facts = {"export": outcome.export_uri, "steps": outcome.steps, "status": outcome.status, "parameters": parameters}
    facts |= {name: outcome.facts[name] for name in ("float32", "rounding", "world_sizes") if name in outcome.facts}
    return run.publish(stage, started, facts={**facts, "prompt": recorded})


def _prepare_world_training(
    init: ArithmeticModel, source: BuiltInSource, prompt: PromptSettings, initial: str, arrays: str
) -> tuple[int, dict[str, Any]]:
    """Write the initial weights and the corpus as arrays; returns the number of parameters and a record of prompts."""
    from redi_ray.modeling.scratch import save_scratch_model  # loads torch, which the driver does without

    tokenizer = character_tokenizer(alphabet_of(source))
    with tempfile.TemporaryDirectory() as folder:
        parameters = save_scratch_model(init.architecture, tokenizer, folder)
        storage.upload(folder, initial)
    records, problems = [], []
    for group, (problem, turns) in enumerate(corpus_of(source, init.corpus_size)):
        problems.append(problem)
        sequence = encode_turns(to_messages(problem, prompt), turns, tokenizer, prompt)
        weights = own_weights(sequence).tolist() if len(turns) > 1 else None
        records.append(SequenceRecord(group, +1, sequence.input_ids, sequence.prompt_length, weights))
    with tempfile.TemporaryDirectory() as folder:
        SequenceStore.from_records(records).save(folder)
        storage.upload(folder, arrays)
    return parameters, record_problems(problems[:RECORDED], tokenizer, prompt)


def _scratch(run: Run, init: ScratchModel, texts: Mapping[str, Manifest], stage: Stage) -> Manifest:
    import ray

    prompt = run.config.model.prompt
    if found := run.reuse(stage):
        return found
    started = time.monotonic()
    build = ray.remote(num_cpus=1, max_retries=2)(_build_scratch)
    export = storage.join(stage.uri, "export")
    tables = [(name, shards) for made in texts.values() for name in READ if (shards := made.files(name))]
    parameters, recorded = ray.get(build.remote(init, prompt, tables, export))
    return run.publish(stage, started, facts={"export": export, "parameters": parameters, "prompt": recorded})


def _build_scratch(
    init: ScratchModel, prompt: PromptSettings, tables: list[tuple[str, list[str]]], export: str
) -> tuple[int, dict[str, Any]]:
    from redi_ray.modeling.scratch import save_scratch_model  # loads torch, which the driver does without

    tokenizer = train_bpe_tokenizer(_texts(tables), init.vocab_size)
    with tempfile.TemporaryDirectory() as folder:
        parameters = save_scratch_model(init.architecture, tokenizer, folder)
        storage.upload(folder, export)
    name, shards = tables[0]
    some = _first_problems(shards) if name == "traces" else [SOME_PROBLEM]
    return parameters, record_problems(some, tokenizer, prompt)


def _first_problems(shards: list[str]) -> list[str]:
    return next(parquet.read_tables(shards, ["problem"])).slice(0, RECORDED)["problem"].to_pylist()


def _texts(tables: list[tuple[str, list[str]]]) -> Iterator[str]:
    """Problems and completions from shards in a fixed random order, so that one source does not decide the tokenizer.

    tables: name and shards of each, all of its `READ` columns being read.
    """
    named = [(shard, name) for name, shards in tables for shard in shards]
    shuffled = random.Random(0).sample(named, len(named))
    taken = 0
    for shard, name in shuffled:
        for row in next(parquet.read_tables([shard], READ[name])).to_pylist():
            yield from (text for column in READ[name] for text in _said(row[column]))
            taken += 1
            if taken >= TOKENIZER_SAMPLE:
                return


def _said(value: Any) -> Iterator[str]:
    """Every text of a value, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for name, item in value.items() if name != "role" for text in _said(item))
    elif isinstance(value, list):
        yield from (text for item in value for text in _said(item))
