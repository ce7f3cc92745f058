"""A column of labelled steps beside all samples: what the locator asks first, then one task per shard.

<uri>/column/<shard>     SPAN_SCORE: a span for each step of the sample's last turn, null where there is no label
      rejects/<shard>    samples that the locator was asked about and failed on, with their reasons
      counts/<shard>     written last: the shard is done
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa

from redi_ray.data.columns import write_column
from redi_ray.data.locate import LOCATORS
from redi_ray.data.locate.locator import (
    READS,
    Bar,
    Failed,
    Find,
    Labelled,
    Locator,
    Silent,
    Steps,
    Work,
    reason_not_to_ask,
    steps_of,
)
from redi_ray.data.sample.survey import trace_shards
from redi_ray.data.shard_tasks import each_shard
from redi_ray.data.sources.shards import reject_row
from redi_ray.schemas import REJECT, SPAN_SCORE
from redi_ray.store import parquet, storage
from redi_ray.text.steps import first_wrong

SAMPLES, LOCATED, WITH_ERROR, STEPS = "samples", "located", "with_error", "steps"
NOT_ASKED, FAILED, LABEL = "not_asked/", "failed/", "label/"
"""Begin the names of counts that there are several of."""


def locate_samples(work: Work, bar: Bar | None = None) -> tuple[Counter[str], dict[str, Any]]:
    """Write the column of every shard of samples; the counts, and what the locator told of its work.

    Counts: `samples = located + sum(not_asked/...) + sum(failed/...)`; `with_error` of the located; `steps = sum(label/...)`.
    """
    told, counts = LOCATORS[work.settings.locator.kind].prepare(work, bar or Silent()), Counter[str]()
    names = [uri.removeprefix(work.samples + "/") for uri in trace_shards(work.samples)]
    for _, found in each_shard(names, locate_shard, work):
        counts.update(found)
    return counts, told


def counted(counts: Counter[str], beginning: str) -> dict[str, int]:
    """Those counts that begin so, by the rest of their names."""
    return {name.removeprefix(beginning): n for name, n in sorted(counts.items()) if name.startswith(beginning)}


def locate_shard(name: str, work: Work) -> dict[str, int]:
    """One shard's counts; its column and rejects are written, unless they are there."""
    mark = storage.join(work.uri, "counts", name.removesuffix(".parquet") + ".json")
    if storage.exists(mark):
        return storage.read_json(mark)
    locator, counts, rejects = LOCATORS[work.settings.locator.kind], Counter[str](), list[dict[str, Any]]()
    find = locator.start(work, name)

    def values(rows: pa.Table) -> list[dict[str, Any]]:
        return [{"spans": _spans_of(row, find, locator, work, counts, rejects)} for row in rows.to_pylist()]

    read = [*READS, "trace_id"]
    counts[SAMPLES] = write_column(
        storage.join(work.samples, name), storage.join(work.uri, "column", name), SPAN_SCORE, read, values
    )
    if rejects:
        table = pa.Table.from_pylist(rejects, schema=REJECT)
        parquet.write_table(storage.join(work.uri, "rejects", name), table)
    storage.write_json(mark, dict(sorted(counts.items())))
    return dict(counts)


def _spans_of(
    row: dict[str, Any], find: Find, locator: Locator, work: Work, counts: Counter[str], rejects: list[dict[str, Any]]
) -> list[dict[str, Any]] | None:
    """The spans of a sample, None where there are no labels; counted."""
    if (reason := reason_not_to_ask(row, work.settings, locator)) is not None:
        counts[NOT_ASKED + reason] += 1
        return None
    steps = steps_of(row, work.settings)
    found = find(row, steps)
    if isinstance(found, Failed):
        counts[FAILED + found.reason] += 1
        rejects.append(reject_row(row["trace_id"], found.reason, found.detail, found.raw))
        return None
    counts[LOCATED] += 1
    counts[WITH_ERROR] += first_wrong(found.labels) is not None
    counts[STEPS] += len(found.labels)
    counts.update(LABEL + label for label in found.labels)
    return spans_of(steps, found)


def spans_of(steps: Steps, found: Labelled) -> list[dict[str, Any]]:
    """A span for each step, covering the turn."""
    values = found.values or [None] * len(found.labels)
    return [
        {"turn": steps.turn, "start": start, "end": end, "label": label, "value": value}
        for (start, end), label, value in zip(steps.spans, found.labels, values, strict=True)
    ]
