"""Stage `generate`: traces for every problem, sampled in rounds or imported.

A round samples every problem that has no correct trace yet, `samples_per_round` times, and verifies what came out; the
failures stay, they are what the rejected traces are made of. Traces of round r are below `<traces>/round-00r/`, their
verdicts under the same name in the `verified` stage, which later finds them done.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from redi_ray import storage
from redi_ray.config.answers import VerifySettings
from redi_ray.config.data import VllmTraces
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.resources import EngineSettings
from redi_ray.data.sampling import Progress, Sampling, explode, sample_traces
from redi_ray.data.verify import verify_traces
from redi_ray.runtime import log
from redi_ray.schemas import Verdict


@dataclass
class GenerateCounts:
    """What generation did; `asked = traces + sum(rejected)`."""

    asked: int = 0
    traces: int = 0
    tokens: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    rounds: list[dict[str, int]] = field(default_factory=list)
    """Per round: problems sampled, traces asked, problems solved so far."""


def round_name(number: int) -> str:
    return f"round-{number:03d}"


def import_traces(imported: list[str], traces_uri: str) -> None:
    """Take over the traces that came with the problems, as round 0."""
    for uri in imported:
        name = uri.rsplit("/", 1)[-1]
        storage.write_bytes(storage.join(traces_uri, round_name(0), name), storage.read_bytes(uri))


def generate_rounds(
    config: VllmTraces,
    problems: pa.Table,
    *,
    model: str,
    engine: EngineSettings,
    prompt: PromptSettings,
    verify: VerifySettings,
    verify_workers: int,
    traces_uri: str,
    verified_uri: str,
    on_progress: Progress,
) -> GenerateCounts:
    """Sample in rounds until every problem has a correct trace or the rounds are used up.

    problems: PROBLEM schema. traces_uri, verified_uri: tables' folders, one subfolder per round in each.
    """
    sampling = Sampling(config.temperature, config.top_p, config.max_tokens, config.seed)
    counts = GenerateCounts()
    unsolved = problems
    for number in range(config.max_rounds):
        indices = range(number * config.samples_per_round, (number + 1) * config.samples_per_round)
        round_uri = storage.join(traces_uri, round_name(number))
        stats = sample_traces(
            explode(unsolved, indices),
            model=model,
            engine=engine,
            sampling=sampling,
            prompt=prompt,
            out_uri=round_uri,
            shard_rows=config.shard_rows,
            on_progress=on_progress,
        )
        shards = trace_shards(round_uri)
        out_uri = storage.join(verified_uri, round_name(number))
        verify_traces(shards, out_uri, verify, concurrency=verify_workers)
        sampled = unsolved.num_rows
        unsolved = without_solved(unsolved, solved_ids(out_uri))
        counts.asked += stats.asked
        counts.traces += stats.traces
        counts.tokens += stats.tokens
        counts.rejected.update(stats.rejected)
        solved = problems.num_rows - unsolved.num_rows
        counts.rounds.append({"problems": sampled, "asked": stats.asked, "solved": solved})
        log.info("round %d: %d problems sampled, %d of %d solved", number, sampled, solved, problems.num_rows)
        if not unsolved.num_rows:
            break
    return counts


def trace_shards(traces_uri: str) -> list[str]:
    """The trace shards below a folder, rejects left out."""
    return [uri for uri in storage.list_files(traces_uri, ".parquet") if "/rejects/" not in uri]


def solved_ids(verified_uri: str) -> pa.Array:
    """Ids of the problems with at least one correct trace among these verdicts."""
    found = [
        pc.unique(table.filter(pc.equal(table["verdict"], str(Verdict.CORRECT)))["problem_id"])
        for table in storage.read_tables(storage.list_files(verified_uri, ".parquet"), ["problem_id", "verdict"])
    ]
    return pa.concat_arrays(found) if found else pa.array([], pa.string())


def without_solved(problems: pa.Table, solved: pa.Array) -> pa.Table:
    """The problems that are not among `solved`."""
    return problems.filter(pc.invert(pc.is_in(problems["problem_id"], value_set=solved)))


def read_problems(uris: list[str]) -> pa.Table:
    """The problems of a table's shards, as one table."""
    return pa.concat_tables(storage.read_tables(uris))
