"""Stage `generate`: traces for every problem, sampled in rounds or imported.

A round samples every problem that has no correct trace yet, `samples_per_round` times, and verifies what comes out while
it does; the failures stay, they are what the rejected traces are made of. Traces of round r are below
`<traces>/round-00r/`, their verdicts under the same name in the `verified` stage, which later finds them done.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from redi_ray.cluster.runtime import log
from redi_ray.config.data import EndpointTraces, SampledTraces, VllmTraces
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.resources import EngineSettings
from redi_ray.data.sample.collect import Verification, collect
from redi_ray.data.sample.endpoint_sampling import endpoint_sampler
from redi_ray.data.sample.rounds import choice_of, round_name
from redi_ray.data.sample.samples import Progress, Sampler, SampleStats, Sampling
from redi_ray.data.sample.sampling import vllm_sampler
from redi_ray.data.sample.survey import survey_verdicts, trace_shards
from redi_ray.data.sources.ids import IdSet
from redi_ray.data.verify.traces import output_of, verify_traces
from redi_ray.store import parquet, storage


@dataclass
class GenerateCounts:
    """What generation did; `asked = traces + sum(rejected)`, in total and in each round."""

    total: SampleStats = field(default_factory=SampleStats)
    rounds: list[dict[str, Any]] = field(default_factory=list)
    """Per round its SampleStats, with the problems sampled, the problems solved so far, and its seconds."""


def import_traces(imported: list[str], traces_uri: str) -> None:
    """Take over the traces that came with the problems, as round 0."""
    for uri in imported:
        name = uri.rsplit("/", 1)[-1]
        storage.write_bytes(storage.join(traces_uri, round_name(0), name), storage.read_bytes(uri))


@contextmanager
def make_sampler(
    config: VllmTraces | EndpointTraces, base: str | None, engine: EngineSettings, prompt: PromptSettings, rows: int
) -> Iterator[tuple[Sampler, str]]:
    """The sampler of `generate.kind`, for the block, and the name of its model.

    base: the base model's folder, which takes the place of a teacher. engine, prompt: the run's, where the config has none.
    rows: the most that a round asks for.
    """
    prompt = config.prompt or prompt
    if isinstance(config, EndpointTraces):
        sampler = endpoint_sampler(
            "generate.endpoint", config.endpoint, sampling_of(config), prompt, force_prefix=config.force_prefix
        )
        yield sampler, config.endpoint.model
        return
    model = base or config.model
    with vllm_sampler(model, config.engine or engine, sampling_of(config), prompt, rows) as sampler:
        yield sampler, model


def sampling_of(config: SampledTraces) -> Sampling:
    """How the config draws one trace."""
    return Sampling(
        config.temperature,
        config.top_p,
        config.max_tokens,
        config.seed,
        loops=config.loops,
        tools=config.tools,
        logps=config.logprobs,
    )


def generate_rounds(
    config: SampledTraces,
    problems: list[str],
    num_problems: int,
    sampler: Sampler,
    *,
    model: str,
    traces_uri: str,
    verification: Verification,
    on_progress: Progress,
) -> GenerateCounts:
    """Sample in rounds until every problem has a correct trace or the rounds are used up; with a `frontier`, until no problem
    promises further pairs.

    problems: shards in PROBLEM schema with `num_problems` rows in all. traces_uri, verification.out_uri: tables' folders,
    one subfolder per round in each.
    """
    counts, solved = GenerateCounts(), IdSet()
    choice = choice_of(config, problems, num_problems, solved, traces_uri)
    for number in range(config.max_rounds):
        started = time.monotonic()
        requests, sampled = choice.ask(number)
        if number and not requests.asked:
            break
        out_uri = storage.join(traces_uri, round_name(number))
        verdicts_uri = storage.join(verification.out_uri, round_name(number))
        before = survey_verdicts(verdicts_uri)
        on_progress(SampleStats(rounds=1, asked=requests.asked, solved=solved.add(before.ids.hashes)) + before.stats)
        stats = collect(
            requests,
            sampler,
            model=model,
            sampling=sampling_of(config),
            out_uri=out_uri,
            shard_rows=config.shard_rows,
            verification=replace(verification, out_uri=verdicts_uri),
            solved=solved,
            on_progress=on_progress,
        )
        # what an earlier run had written but not verified, or what could not be verified on the way
        verified = set(storage.list_files(verdicts_uri, ".parquet"))
        left = [uri for uri in trace_shards(out_uri) if output_of(uri, storage.resolve(verdicts_uri)) not in verified]
        verify_traces(
            left,
            verdicts_uri,
            verification.settings,
            concurrency=verification.workers,
            tests_uri=verification.tests_uri,
            label_selector=verification.label_selector,
        )
        verdicts = survey_verdicts(verdicts_uri)
        solved.add(verdicts.ids.hashes)
        stats += SampleStats(rounds=1, verified=verdicts.stats.verified, correct=verdicts.stats.correct)
        counts.total += stats
        seconds = round(time.monotonic() - started, 1)
        told = {"problems": sampled, "solved": len(solved), "seconds": seconds, **choice.learn(number, verdicts_uri)}
        counts.rounds.append({**stats.plain(), **told})
        log.info("round %d: %d problems sampled, %d of %d solved", number, sampled, len(solved), num_problems)
    counts.total.solved = len(solved)
    return counts


def read_problems(uris: list[str]) -> pa.Table:
    """The problems of a few shards (a benchmark, a held-out split) as one table."""
    return pa.concat_tables(parquet.read_tables(uris))
