"""Samples with the columns that steps have made of them: found by the graph, read by the samples' ids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from redi_ray.pipeline.graph import Graph, Step
from redi_ray.report.browse import ROWS_AT_A_TIME, BrowseError, TraceFilter, read_traces
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest, current_manifest

COLUMN, KEY = "column", "trace_id"
"""A column's table, and what its rows are found by."""
COLUMNS = "columns"
"""Where a row of samples has what was read beside it: step -> value, spans or values."""


Shard = tuple[str, Mapping[str, str]]
"""A shard of samples, and column -> its shard."""


def is_spans(said: Any) -> bool:
    """Whether a column marks parts of a sample."""
    return isinstance(said, list) and bool(said) and isinstance(said[0], dict)


def said_in(row: Mapping[str, Any]) -> Any:
    """What a row of a column says."""
    return next(value for name, value in row.items() if name != KEY)


def columns_of(graph: Graph, samples: str) -> list[Step]:
    """The steps that say more about the samples of a step, with verdicts or without."""
    return [step for step in graph if step.gives == COLUMN and _origin(graph, step.name) == _origin(graph, samples)]


def samples_of(run: str, graph: Graph, column: str) -> str:
    """The step whose samples a column is of: with verdicts where there are some."""
    alike = [step for step in graph if step.kind == "verify" and _origin(graph, step.name) == _origin(graph, column)]
    return next((step.name for step in alike if _is_finished(run, step)), graph[column].inputs["of"])


def _origin(graph: Graph, name: str) -> str:
    """The step that has made these samples: verdicts and columns add to them, and leave them as they are."""
    step = graph[name]
    return _origin(graph, step.inputs["of"]) if step.gives == COLUMN or step.kind == "verify" else name


def beside(run: str, graph: Graph, samples: str, columns: Sequence[str]) -> list[Shard]:
    """(shard of the samples, column -> its shard) of finished steps. Raises BrowseError for columns of other samples."""
    fitting = [step.name for step in columns_of(graph, samples)]
    if odd := [name for name in columns if name not in fitting]:
        raise BrowseError(
            f"{odd[0]} is no column of the samples of {samples}; columns of theirs: {', '.join(fitting) or 'none'}"
        )
    made = _finished(run, graph, samples)
    table = made.table(made.stage.rsplit("/", 1)[-1])
    roots = {name: _finished(run, graph, name).table(COLUMN) for name in columns}
    shards = storage.list_files(table, ".parquet")
    within = {shard: shard.removeprefix(table.rstrip("/")).lstrip("/") for shard in shards}
    return [(shard, {name: storage.join(root, within[shard]) for name, root in roots.items()}) for shard in shards]


def all_beside(run: str, graph: Graph, samples: str) -> list[Shard]:
    """The same with every column that is whole."""
    names = [step.name for step in columns_of(graph, samples) if _is_finished(run, step)]
    found = beside(run, graph, samples, names)
    whole = [name for name in names if all(storage.exists(columns[name]) for _, columns in found)]
    return [(shard, {name: columns[name] for name in whole}) for shard, columns in found]


def _is_finished(run: str, step: Step) -> bool:
    return storage.exists(storage.join(run, step.stage, "manifest.json"))


def _finished(run: str, graph: Graph, name: str) -> Manifest:
    if not _is_finished(run, graph[name]):
        raise BrowseError(f"step {name} is not finished (redi-ray run CONFIG --until {name})")
    return current_manifest(run, graph[name].stage)


def read_beside(shards: Sequence[Shard], wanted: TraceFilter, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """The first `limit` samples that `wanted` lets through, what the columns say of each under COLUMNS."""
    left = limit
    for shard, columns in shards:
        matches = read_traces([shard], wanted, left, columns)
        while rows := list(islice(matches, ROWS_AT_A_TIME)):
            found = {name: _values(uri, [row[KEY] for row in rows]) for name, uri in columns.items()}
            for row in rows:
                yield {**row, COLUMNS: {name: values.get(row[KEY]) for name, values in found.items()}}
            left = None if left is None else left - len(rows)
        if left == 0:
            return


def _values(uri: str, keys: Sequence[str]) -> dict[str, Any]:
    """trace_id -> what a column's shard says of it. Raises BrowseError where it cannot be read."""
    import pyarrow.dataset as ds  # which loads pandas

    fs, path = storage.filesystem(uri)
    try:
        table = ds.dataset(path, filesystem=fs, format="parquet").to_table(filter=pc.field(KEY).isin(list(keys)))
    except (pa.ArrowException, OSError) as error:
        raise BrowseError(f"{uri}: cannot be read as Parquet ({error}); make the column again") from error
    return {row[KEY]: said_in(row) for row in table.to_pylist()}
