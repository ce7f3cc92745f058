"""Stage `curate`: from verified traces to positives and (chosen, rejected) pairs.

By default the paper's rule: chosen is the first correct trace of a problem, rejected the first incorrect one, in the order
of generation; then prompts and responses over the token limits are dropped. A problem with a chosen trace gives an example,
one that also has a rejected trace gives a pair. More blocks (`redi_ray.config.curation`) drop problems and traces before
the choice, or choose otherwise.

The work is done in passes by a few workers (`redi_ray.data.curate`). Whole traces, tens of kilobytes each, are never
shuffled, the driver sees counts alone, the result depends on neither order nor sharding of the input, and a task that was
finished is not done again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from redi_ray.config.curation import CurateConfig
from redi_ray.config.embedders import Embedder, ModelEmbedder, WordEmbedder
from redi_ray.config.prompts import PromptSettings
from redi_ray.data.curate.blocks import Blocks
from redi_ray.data.curate.choice import decide
from redi_ray.data.curate.contamination import BENCHMARKS, read_problems
from redi_ray.data.curate.diverse import MEASURES
from redi_ray.data.curate.embeddings import Embedding, embedder_of
from redi_ray.data.curate.scan import scan
from redi_ray.data.curate.select import select
from redi_ray.data.curate.work import Curation, Sharded, count_partitions, cut
from redi_ray.data.curate.write import write_group
from redi_ray.data.weights import Weighing
from redi_ray.store import parquet, storage

PassRunner = Callable[[str, list[int]], Iterable[Counter[str]]]
"""Runs the named pass for each task; yields the counts of tasks as they finish."""


@dataclass(frozen=True)
class CurateCounts:
    """`problems = positives + sum(dropped)`, and with one pair a problem `positives = pairs + sum(pairs_dropped)`."""

    problems: int
    positives: int
    """Problems that give an example."""
    pairs: int
    dropped: dict[str, int]
    pairs_dropped: dict[str, int]
    """`planned_pairs = pairs + sum(pairs_dropped)`; a positive that cannot have a pair counts as one planned."""
    planned_pairs: int = 0
    examples: int = 0
    """`examples + sum(examples_dropped)` is what the positives planned: one each, or up to `positives_per_problem`."""
    examples_dropped: dict[str, int] = field(default_factory=dict)
    traces: int = 0
    traces_dropped: dict[str, int] = field(default_factory=dict)
    """Traces that were no candidates for their side, whatever became of their problems."""
    cut_off: dict[str, int] = field(default_factory=dict)
    """Traces in `examples`, and on the sides of the pairs, that were cut off; no end-of-turn token follows them."""
    pass_rates: dict[str, int] = field(default_factory=dict)
    """Problems per tenth of the pass rate, where `difficulty` is set."""
    diversity: dict[str, dict[str, float]] = field(default_factory=dict)
    """How spread the selected problems are, and as many by chance (`redi_ray.data.embed.spread.measures`), where it is set."""


def curate(
    verified: list[str],
    out_uri: str,
    config: CurateConfig,
    *,
    tokenizer: str,
    prompt: PromptSettings,
    num_problems: int,
    benchmarks: pa.Table | None = None,
    others: Sequence[str] = (),
    weighing: Weighing | None = None,
    workers: int = 2,
    label_selector: Mapping[str, str] | None = None,
    trust_remote_code: bool = False,
) -> CurateCounts:
    """Write `examples` (EXAMPLE), `pairs` (PAIR), `dropped`, under `difficulty` `pass_rates` and under `duplicates.semantic`
    `similar` below `out_uri`.

    verified: shards in VERIFIED_TRACE schema. tokenizer: the student's folder. num_problems: of the problems stage, so
    that problems without any trace are counted too. benchmarks: `problem_id, problem` of what `contamination` compares
    with, besides its own files. others: shards like `verified` whose correct traces may be chosen behind all of those, and whose
    other traces count for nothing. weighing: the column that weighs the tokens of the pairs, its shards those of `verified`.
    workers: actors, one core each, on nodes that `label_selector` matches. Ray must be
    connected; call it again with the same arguments to continue what was cut off. `<out_uri>/work` holds what the passes
    hand on.

    Raises DataError if a file of `contamination` cannot be read.
    """
    curation = make_curation(
        [*verified, *others], out_uri, config, tokenizer=tokenizer, prompt=prompt, benchmarks=benchmarks
    )
    if weighing is not None:
        weighing.check()
    curation = replace(curation, others=len(others), trust_remote_code=trust_remote_code, weighing=weighing)
    with embedding_workers(curation, embedder_of(curation), workers, label_selector) as run:
        return run_passes(curation, run, num_problems)


def make_curation(
    verified: list[str],
    out_uri: str,
    config: CurateConfig,
    *,
    tokenizer: str,
    prompt: PromptSettings,
    benchmarks: pa.Table | None = None,
) -> Curation:
    """The plan of the work, the same for the same shards."""
    sizes = storage.file_sizes(verified)
    shards = tuple(map(storage.resolve, verified))
    borders, partitions = cut(sizes), count_partitions(sizes)
    curation = Curation(
        verified=shards,
        out_uri=storage.resolve(out_uri),
        config=config,
        tokenizer=tokenizer,
        prompt=prompt,
        borders=borders,
        partitions=partitions,
    )
    if config.contamination is not None:
        tables = [read_problems(file) for file in config.contamination.files]
        if benchmarks is not None and config.contamination.benchmarks:
            tables.append(benchmarks.select(BENCHMARKS.names).cast(BENCHMARKS))
        parquet.write_table(curation.work("benchmarks.parquet"), pa.concat_tables(tables or [BENCHMARKS.empty_table()]))
    return curation


def run_passes(curation: Curation, run: PassRunner, num_problems: int) -> CurateCounts:
    """The passes, and the sum of their counts."""
    sums, config = Counter[str](), curation.config
    blocks, embedder = Blocks.of(curation), embedder_of(curation)
    embedded = curation.groups if blocks.embeds else 0
    passes = (
        ("scan", curation.groups),
        ("decide", curation.partitions),
        ("texts", embedded),
        ("fit", int(blocks.embeds and isinstance(embedder, WordEmbedder))),
        ("embed", embedded),
        ("select", int(bool(blocks.corpus))),
        ("write", curation.groups),
    )
    for name, tasks in passes:
        for counts in run(name, list(range(tasks))):
            sums.update(counts)
    dropped = _counted(sums, "problem")
    assert sums["problems"] == sums["positives"] + sum(dropped.values()), sums
    if num_problems > sums["problems"]:
        dropped["no_trace"] = num_problems - sums["problems"]
    return CurateCounts(
        problems=num_problems,
        positives=sums["positives"],
        pairs=sums["pairs"],
        dropped=dropped,
        pairs_dropped=_counted(sums, "pair"),
        planned_pairs=sums["planned_pairs"],
        examples=sums["examples"],
        examples_dropped=_counted(sums, "example"),
        traces=sums["traces"],
        traces_dropped=_counted(sums, "trace"),
        cut_off=_counted(sums, "cut_off"),
        pass_rates=_counted(sums, "pass_rate"),
        diversity={} if config.diversity is None else storage.read_json(curation.work(MEASURES)),
    )


def _counted(sums: Counter[str], what: str) -> dict[str, int]:
    return {name.partition("/")[2]: n for name, n in sorted(sums.items()) if name.startswith(f"{what}/") and n}


class Worker:
    """Does the tasks of any pass."""

    def __init__(self, curation: Curation) -> None:
        self.curation = curation

    @cached_property
    def blocks(self) -> Blocks:
        return Blocks.of(self.curation)

    @cached_property
    def embedding(self) -> Embedding:
        return Embedding(self.curation)

    def work(self, name: str, task: int) -> Counter[str]:
        """One task of the named pass."""
        if name == "scan":
            return scan(self.curation, task, self.blocks)
        if name == "decide":
            return decide(self.curation, task, self.blocks)
        if name == "select":
            return select(self.curation, self.blocks)
        if name == "write":
            return write_group(self.curation, task, sieved=bool(self.blocks.corpus))
        return self.embedding.work(name, task)


@contextmanager
def embedding_workers(
    passes: Sharded,
    embedder: Embedder,
    count: int,
    label_selector: Mapping[str, str] | None = None,
    kind: type = Worker,
) -> Iterator[PassRunner]:
    """The same, the pass `embed` on GPUs where the embedder asks for them."""
    with ray_workers(passes, count, label_selector, kind) as run:

        def run_anywhere(name: str, tasks: list[int]) -> Iterator[Counter[str]]:
            if name == "embed" and isinstance(embedder, ModelEmbedder) and embedder.device == "gpu":
                needs = {"num_cpus": 0, "num_gpus": 1}
                with ray_workers(passes, embedder.workers, kind=kind, needs=needs) as embed:
                    yield from embed(name, tasks)
            else:
                yield from run(name, tasks)

        yield run_anywhere


@contextmanager
def ray_workers(
    passes: Sharded,
    count: int,
    label_selector: Mapping[str, str] | None = None,
    kind: type = Worker,
    needs: Mapping[str, float] = MappingProxyType({"num_cpus": 1}),
) -> Iterator[PassRunner]:
    """Actors of a class such as `Worker` that do the tasks. One that dies is started again, and so are its tasks. needs: what an
    actor asks of Ray."""
    import ray
    from ray.util import ActorPool

    labels: dict[str, Any] = {"label_selector": dict(label_selector)} if label_selector else {}
    options: dict[str, Any] = {**needs, **labels, "max_restarts": 4, "max_task_retries": 4}
    actor: Any = ray.remote(**options)(kind)
    actors: list[Any] = [actor.remote(passes) for _ in range(min(count, max(passes.groups, 1)))]
    pool = ActorPool(actors)

    def run(name: str, tasks: list[int]) -> Iterator[Counter[str]]:
        try:
            yield from pool.map_unordered(lambda worker, task: worker.work.remote(name, task), tasks)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None

    try:
        yield run
    finally:
        for worker in actors:
            ray.kill(worker)
