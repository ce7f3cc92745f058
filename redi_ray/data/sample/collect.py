"""From a sampler's completions to Parquet shards of traces: resumed, verified as they are written, counted.

Every shard is written whole by the task that has its rows. On resume the traces found in finished shards are left out and
the rest is sampled. A shard that is written goes straight to a verifier, while the engines draw the next ones. Requests
that failed without fault of theirs are asked again, and only what fails to the last becomes a reject.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from redi_ray.cluster.runtime import log, user_error
from redi_ray.config.answers import VerifySettings
from redi_ray.data.sample.samples import (
    COMPLETION,
    TASK_CPUS,
    Progress,
    Requests,
    Sampler,
    SampleStats,
    Sampling,
    SamplingError,
    sample_seed,
)
from redi_ray.data.sample.survey import rejected_ids, stats_of, survey, verdict_stats
from redi_ray.data.sources.ids import IdSet
from redi_ray.data.verify.traces import VerifyShards, output_of
from redi_ray.schemas import REJECT, SAMPLED_TRACE, TRACE, VOTES, trace_id
from redi_ray.store import parquet, storage

if TYPE_CHECKING:
    import ray.data

TRIES = 3
"""How often a request is asked whose failure may be the engine's."""


@dataclass(frozen=True)
class Verification:
    """Where and how traces are verified as soon as they are written, by `workers` actors on nodes with certain labels."""

    out_uri: str
    settings: VerifySettings
    workers: int
    label_selector: Mapping[str, str] = field(default_factory=dict)
    tests_uri: str | None = None
    """The table of problems' tests, if there is one."""


def collect(
    requests: Requests,
    sampler: Sampler,
    *,
    model: str,
    sampling: Sampling,
    out_uri: str,
    shard_rows: int,
    verification: Verification | None = None,
    solved: IdSet | None = None,
    on_progress: Progress = lambda added: None,
) -> SampleStats:
    """Sample every request into `<out_uri>/part-*.parquet` (TRACE schema, or SAMPLED_TRACE), rejects into `<out_uri>/rejects`.

    model: what the traces' column says. solved: grows by the problems whose traces are found correct.
    Raises SamplingError if engines die too often, and the sampler's own UserError if that is what ends it.
    """
    out_uri = storage.resolve(out_uri)  # tasks run in other working directories
    if verification is not None:
        verification = replace(verification, out_uri=storage.resolve(verification.out_uri))
    verdicts = verification.out_uri if verification else None
    storage.delete(storage.join(out_uri, "rejects"))  # of an earlier run; this one asks those again
    found = survey(out_uri, verdicts)
    resumed = found.stats.traces
    on_progress(found.stats + SampleStats(resumed=resumed))
    total = SampleStats(asked=requests.asked, resumed=resumed, doubles=found.stats.doubles)
    for attempt in range(1, TRIES + 1):
        found.ids.add(rejected_ids(out_uri).hashes)
        missing = requests.without(found.ids)
        if not missing.asked:
            break
        write = partial(_write_shard, out_uri=out_uri, model=model, sampling=sampling, last=attempt == TRIES)
        added = _run(sampler(missing.dataset), write, shard_rows, verification, solved, on_progress)
        total.rejected.update(added.rejected)
        found = survey(out_uri, verdicts)
        total.doubles += found.stats.doubles
        if added.retried:
            log.warning("%d of %d requests failed and are asked again", added.retried, missing.asked)
        else:
            break
    for name in ("traces", "tokens", "prompt_tokens", "truncated", "loops"):
        setattr(total, name, getattr(found.stats, name))
    return total


def _run(
    completions: ray.data.Dataset,
    write: partial[dict[str, Any]],
    shard_rows: int,
    verification: Verification | None,
    solved: IdSet | None,
    on_progress: Progress,
) -> SampleStats:
    """Draw the completions, write and verify them; the driver sees one small row per shard."""
    import ray.data

    shards = completions.map_batches(write, batch_size=shard_rows, batch_format="pyarrow", num_cpus=TASK_CPUS)
    if verification is not None:
        shards = shards.map_batches(
            _VerifyWritten,
            fn_constructor_args=(verification,),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=verification.workers),
            num_cpus=verification.settings.processes,
            label_selector=dict(verification.label_selector) or None,
        )
    shards.context.raise_original_map_exception = True  # or a UserError would arrive as text
    total = SampleStats()
    try:
        # without prefetching: a shard is counted when it is there, not when the next one is
        batches: Iterable[Any] = shards.iter_batches(batch_size=None, prefetch_batches=0, batch_format="pyarrow")
        for row in (row for batch in batches for row in batch.to_pylist()):
            counts = json.loads(row["counts"])
            added = SampleStats(**{**counts, "rejected": Counter(counts["rejected"])})
            if solved is not None and row["solved"]:
                added.solved = solved.add(np.frombuffer(row["solved"], np.uint64))
            total += added
            on_progress(added)
    except ray.exceptions.RayTaskError as error:
        if (told := user_error(error)) is not None:
            raise told from None
        raise
    except ray.exceptions.RayActorError as error:
        raise SamplingError(
            "an actor of the sampling stage died and could not be started again. Finished shards are kept, so the same "
            f"command goes on. Ray says: {error}"
        ) from error
    return total


def _write_shard(batch: pa.Table, out_uri: str, model: str, sampling: Sampling, last: bool) -> dict[str, list[Any]]:
    """Write one shard of traces, and one of rejects if there are any; returns one row: its place and its counts."""
    drawn, failed = batch.filter(pc.is_null(batch["failure"])), batch.filter(pc.is_valid(batch["failure"]))
    final = failed if last else failed.filter(pc.invert(failed["retry"]))
    # named by its content: a task that Ray runs again overwrites its own shard instead of doubling it
    ids = "\n".join(sorted(_trace_ids(batch)))
    name = f"part-{hashlib.sha256(ids.encode()).hexdigest()[:20]}.parquet"
    if final.num_rows:
        parquet.write_table(storage.join(out_uri, "rejects", name), _to_rejects(final))
    uri, stats = "", SampleStats()
    if drawn.num_rows:
        uri = storage.join(out_uri, name)
        traces = _to_traces(drawn, model, sampling)
        parquet.write_table(uri, traces)
        stats = stats_of(traces)
    stats.retried = failed.num_rows - final.num_rows
    stats.rejected = Counter(final["failure"].to_pylist())
    return {"uri": [uri], "counts": [json.dumps(stats.plain())], "solved": [b""]}


def _trace_ids(rows: pa.Table) -> list[str]:
    pairs = zip(rows["problem_id"].to_pylist(), rows["sample_index"].to_pylist(), strict=True)
    return [trace_id(problem_id, index) for problem_id, index in pairs]


def _to_rejects(rows: pa.Table) -> pa.Table:
    columns = {"where": _trace_ids(rows), "reason": rows["failure"], "detail": rows["detail"]}
    return pa.table({**columns, "raw": [""] * rows.num_rows}).cast(REJECT)


def _to_traces(rows: pa.Table, model: str, sampling: Sampling) -> pa.Table:
    parameters = {"temperature": sampling.temperature, "top_p": sampling.top_p, "max_tokens": sampling.max_tokens}
    if sampling.tools is not None:
        parameters |= {"max_turns": sampling.tools.max_turns}
    keys = zip(*(rows[name].to_pylist() for name in ("problem_id", "sample_index", "prompt_tokens")), strict=True)
    told = [
        json.dumps(
            {**parameters, "seed": sample_seed(sampling.seed, problem_id, index), "prompt_tokens": prompt_tokens}
        )
        for problem_id, index, prompt_tokens in keys
    ]
    schema = SAMPLED_TRACE if sampling.logps else TRACE
    columns = {
        **{name: rows[name] for name in COMPLETION.names if name in schema.names},
        "trace_id": _trace_ids(rows),
        "model": [model] * rows.num_rows,
        "sampling": told,
        "votes": pa.nulls(rows.num_rows, VOTES),
    }
    return pa.table({name: columns[name] for name in schema.names}).cast(schema)


class _VerifyWritten:
    """Verifies a shard that has just been written, and says which problems it solves."""

    def __init__(self, verification: Verification) -> None:
        self.out_uri = verification.out_uri
        self.verify = VerifyShards(verification.out_uri, verification.settings, verification.tests_uri)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """A row of `_write_shard` -> the same row with `verified`, `correct` and the hashes of solved problems."""
        uri, counts, solved = str(batch["uri"][0]), json.loads(str(batch["counts"][0])), b""
        # a shard that cannot be verified now is found unverified after the round, and fails there for all to see
        if uri and not self.verify({"uri": [uri]})["failure"][0]:
            ids, stats = verdict_stats(output_of(uri, self.out_uri))
            counts |= {"verified": stats.verified, "correct": stats.correct}
            solved = ids.tobytes()
        return {"uri": [uri], "counts": [json.dumps(counts)], "solved": [solved]}
