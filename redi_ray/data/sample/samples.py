"""What the samplers share: requests in, completions out, and the counts that they report.

A sampler is a function from a dataset of requests to one of completions (`Sampler`); `redi_ray.data.sample.sampling` has the one
that runs vLLM, `redi_ray.data.sample.collect` writes what any of them gives. Requests are built by tasks from the shards of the
problems, so the driver holds neither problems nor requests.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field, fields
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from redi_ray.config.loops import LoopSettings
from redi_ray.config.tools import ToolSettings
from redi_ray.data.sources.ids import Hashes, IdSet, contained, hash_ids
from redi_ray.errors import UserError
from redi_ray.schemas import MESSAGES, PROBLEM, SAMPLED_TOKENS, trace_id
from redi_ray.store import parquet

if TYPE_CHECKING:
    import ray.data

REQUEST = pa.schema([*PROBLEM, pa.field("sample_index", pa.int64(), nullable=False)])

BEGUN = "begun"
"""Column that some requests have beside these: the beginning of the answer, forced prefix included, from which the model goes
on. The completion is then the whole answer, of which `num_tokens` counts what is new."""

COMPLETION = pa.schema(
    [
        *REQUEST,
        pa.field("completion", pa.string()),  # with the forced prefix; null where sampling failed
        pa.field("turns", MESSAGES),  # as in TRACE
        pa.field("finish_reason", pa.string()),  # as in TRACE
        pa.field("num_tokens", pa.int64()),
        pa.field("prompt_tokens", pa.int64()),
        *SAMPLED_TOKENS,  # null unless they were asked for
        pa.field("failure", pa.string()),  # null, or the reason that the reject will have
        pa.field("detail", pa.string()),  # of the failure
        pa.field("retry", pa.bool_()),  # the failure may be the engine's, so that another try makes sense
    ]
)
"""What a sampler gives back, one row per request, in any order."""

TASK_CPUS = 0.5
"""Logical CPUs of the small tasks around a sampler. Ray Data runs neighbours that ask for the same as one task."""

Sampler: TypeAlias = "Callable[[ray.data.Dataset], ray.data.Dataset]"
"""REQUEST rows -> as many COMPLETION rows."""


class SamplingError(UserError):
    """Sampling cannot go on; the message says why. What is written stays."""


@dataclass(frozen=True)
class Sampling:
    """How one trace is drawn. `seed` is the root of all samples' seeds."""

    temperature: float
    top_p: float
    max_tokens: int
    seed: int
    _: KW_ONLY
    loops: LoopSettings = field(default_factory=partial(LoopSettings, stop=False))
    """What counts as a loop, and whether it is stopped."""
    tools: ToolSettings | None = None
    """Tools that may be called between turns; null: a trace is one turn."""
    stop: tuple[str, ...] = ()
    """Texts at whose first one a completion ends, which it keeps; it is then no whole answer."""
    logps: bool = False
    """Whether each trace keeps its tokens and their log-probs."""
    words: tuple[str, ...] = ()
    """Words that are weighed as the next token, in place of sampling (`redi_ray.data.sample.engine_words`)."""


@dataclass
class SampleStats:
    """What sampling did, or what one more shard adds to it. Finally `asked = traces + sum(rejected)`."""

    rounds: int = 0
    asked: int = 0
    traces: int = 0
    """Those of earlier runs included, as in the next five."""
    tokens: int = 0
    """Generated ones."""
    prompt_tokens: int = 0
    """Of the traces, each with its whole prompt."""
    truncated: int = 0
    """Traces that reached their token limit, or were broken off."""
    loops: int = 0
    """Traces that were caught in a loop."""
    resumed: int = 0
    """Traces found finished."""
    doubles: int = 0
    """Traces that two shards held, dropped from one of them."""
    retried: int = 0
    """Requests asked again."""
    verified: int = 0
    correct: int = 0
    solved: int = 0
    """Problems with a correct trace."""
    rejected: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: SampleStats) -> SampleStats:
        return SampleStats(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(SampleStats)))

    def plain(self) -> dict[str, Any]:
        """As JSON holds it; `dataclasses.asdict` would rebuild the Counter from pairs and count those."""
        return {**vars(self), "rejected": dict(self.rejected)}


Progress = Callable[[SampleStats], None]
"""Called with what has just been added."""


def sample_seed(root: int, problem_id: str, sample_index: int) -> int:
    """The seed of one sample: 31 bits of a hash, so that it depends on nothing but these three."""
    digest = hashlib.blake2b(f"{root}/{problem_id}/{sample_index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) % 2**31


def turn_seed(seed: int, turn: int) -> int:
    """The seed of turn number `turn` (0, 1, ... of the model's own), by the sample's seed, which is the first one's."""
    if turn == 0:
        return seed
    return int.from_bytes(hashlib.blake2b(f"{seed}/turn {turn}".encode(), digest_size=8).digest()) % 2**31


@dataclass(frozen=True)
class Requests:
    """Samples to be drawn: a dataset of REQUEST rows that is not computed yet, and how many there are."""

    dataset: ray.data.Dataset
    asked: int

    @classmethod
    def of_table(cls, table: pa.Table) -> Requests:
        """`table`: REQUEST columns, see `explode`."""
        import ray.data

        return cls(ray.data.from_arrow(table), table.num_rows)

    @classmethod
    def of_problems(cls, shards: list[str], num_problems: int, indices: range, solved: IdSet) -> Requests:
        """Every problem of the shards that is not solved, once per sample index."""
        import ray.data

        rows = ray.data.from_items([{"uri": uri} for uri in shards], override_num_blocks=len(shards))
        explode_shard = partial(_explode_shard, indices=indices, solved=solved.hashes)
        dataset = rows.map_batches(explode_shard, batch_size=1, num_cpus=TASK_CPUS)
        return cls(dataset, (num_problems - len(solved)) * len(indices))

    @classmethod
    def of_allocation(cls, shards: list[str], problems: Hashes, first: NDArray[Any], counts: NDArray[Any]) -> Requests:
        """Of each problem of the shards as many samples as `counts` says, from the index `first` on; `[N]` each, of the problems
        by their sorted hashes."""
        import ray.data

        some = counts > 0
        explode_shard = partial(_explode_allocated, problems=problems[some], first=first[some], counts=counts[some])
        rows = ray.data.from_items([{"uri": uri} for uri in shards], override_num_blocks=len(shards))
        return cls(rows.map_batches(explode_shard, batch_size=1, num_cpus=TASK_CPUS), int(counts.sum()))

    def without(self, done: IdSet) -> Requests:
        """Those whose trace is not there yet."""
        if not len(done):
            return self
        dataset = self.dataset.map_batches(
            partial(_drop_done, done=done.hashes), batch_size=None, batch_format="pyarrow", num_cpus=TASK_CPUS
        )
        return Requests(dataset, self.asked - len(done))


def explode(problems: pa.Table, indices: range) -> pa.Table:
    """PROBLEM rows, which may have `begun`, -> REQUEST rows; a problem's samples stay together, so that they share the prefix
    cache."""
    return _exploded(problems, [np.asarray(indices)] * problems.num_rows)


def _exploded(problems: pa.Table, indices: list[NDArray[Any]]) -> pa.Table:
    """indices: the samples of each problem."""
    rows = np.repeat(np.arange(problems.num_rows), [len(some) for some in indices])
    samples = np.concatenate([np.empty(0, np.int64), *indices]).astype(np.int64)
    schema = REQUEST.append(pa.field(BEGUN, pa.string())) if BEGUN in problems.column_names else REQUEST
    table = problems.take(pa.array(rows)).append_column("sample_index", pa.array(samples, pa.int64()))
    return table.select(schema.names).cast(schema)


def _read_problems(uri: str) -> pa.Table:
    begun = [BEGUN] if BEGUN in parquet.read_schema(uri).names else []
    (problems,) = parquet.read_tables([uri], [*PROBLEM.names, *begun])
    return problems


def _explode_shard(batch: dict[str, Any], indices: range, solved: Hashes) -> pa.Table:
    (uri,) = map(str, batch["uri"])
    problems = _read_problems(uri)
    unsolved = ~contained(hash_ids(problems["problem_id"].to_pylist()), solved)
    return explode(problems.filter(pa.array(unsolved)), indices)


def _explode_allocated(batch: dict[str, Any], problems: Hashes, first: NDArray[Any], counts: NDArray[Any]) -> pa.Table:
    (uri,) = map(str, batch["uri"])
    table = _read_problems(uri)
    hashes = hash_ids(table["problem_id"].to_pylist())
    table, hashes = table.filter(pa.array(contained(hashes, problems))), hashes[contained(hashes, problems)]
    place = np.searchsorted(problems, hashes)
    return _exploded(table, [np.arange(first[at], first[at] + counts[at]) for at in place])


def _drop_done(requests: pa.Table, done: Hashes) -> pa.Table:
    return requests.filter(pa.array(~contained(hash_trace_ids(requests), done)))


def hash_trace_ids(table: pa.Table) -> Hashes:
    """Hashes of the trace ids that the rows' `problem_id` and `sample_index` make."""
    pairs = zip(table["problem_id"].to_pylist(), table["sample_index"].to_pylist(), strict=True)
    return hash_ids(trace_id(problem_id, index) for problem_id, index in pairs)
