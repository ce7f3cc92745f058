"""A column of all samples: one task per shard; a shard whose column is there is only counted."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow.compute as pc

from redi_ray.config.scorer_base import ScorerSettings
from redi_ray.data.columns import write_column
from redi_ray.data.sample.survey import trace_shards
from redi_ray.data.score import SCORERS
from redi_ray.data.score.scorer import Asked
from redi_ray.data.shard_tasks import each_shard
from redi_ray.store import parquet, storage


@dataclass
class ScoreCounts:
    """What a column holds; sums are over the numbers, those of spans among them."""

    samples: int = 0
    without: int = 0
    """Samples with no number, or no span."""
    numbers: int = 0
    total: float = 0.0
    least: float = math.inf
    most: float = -math.inf
    labels: dict[str, int] = field(default_factory=dict)
    """What the scorer calls samples -> how many."""

    def add(self, other: ScoreCounts) -> None:
        """Add the counts of a shard."""
        for name in ("samples", "without", "numbers", "total"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.least, self.most = min(self.least, other.least), max(self.most, other.most)
        self.labels = dict(Counter(self.labels) + Counter(other.labels))


def score_samples(
    samples_uri: str, out_uri: str, settings: ScorerSettings, asked: Asked
) -> tuple[ScoreCounts, dict[str, Any]]:
    """Write `<out_uri>/<shard>` for every shard of samples below `samples_uri`; the counts, and what was prepared."""
    import ray

    scorer = SCORERS[settings.name]  # type: ignore[attr-defined]  # every one of the union has it
    prepare = ray.remote(num_cpus=1, max_retries=2)(scorer.prepare)
    try:
        told = ray.get(prepare.remote(settings, asked))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    root, counts = storage.resolve(samples_uri), ScoreCounts()
    names = [uri.removeprefix(root + "/") for uri in trace_shards(root)]
    for _, found in each_shard(names, _score_shard, root, storage.resolve(out_uri), settings, asked):
        counts.add(ScoreCounts(**found))
    return counts, told


def _score_shard(name: str, samples_uri: str, out_uri: str, settings: Any, asked: Asked) -> dict[str, Any]:
    scorer, out = SCORERS[settings.name], storage.join(out_uri, name)
    if not storage.exists(out):
        schema, start = scorer.schema(settings), scorer.start(settings, asked)
        others = {called: storage.join(folder, name) for called, folder in asked.columns.items()}
        write_column(storage.join(samples_uri, name), out, schema, scorer.reads, start, others)
    return asdict(_counts(out))


def column_counts(uris: Sequence[str]) -> ScoreCounts:
    """Of a column's shards, together."""
    counts = ScoreCounts()
    for uri in uris:
        counts.add(_counts(uri))
    return counts


def _counts(uri: str) -> ScoreCounts:
    counts = ScoreCounts()
    for batch in parquet.read_batches(uri):
        values, samples = batch.column(1), batch.num_rows
        counts.without += values.null_count
        if batch.column_names[1] == "spans":
            counts.without += pc.sum(pc.equal(pc.list_value_length(values), 0)).as_py() or 0
            values = pc.struct_field(pc.list_flatten(values), "value")
        elif batch.column_names[1] == "values":
            values = pc.list_flatten(values)
        if "label" in batch.column_names:
            counts.labels = dict(Counter(counts.labels) + Counter(batch["label"].to_pylist()))
        numbers = values.drop_null()
        counts.samples += samples
        counts.numbers += len(numbers)
        counts.total += pc.sum(numbers).as_py() or 0.0
        ends = pc.min_max(numbers).as_py()
        if len(numbers):
            counts.least, counts.most = min(counts.least, ends["min"]), max(counts.most, ends["max"])
    return counts
