"""What rows a step of a run has to look at, finished or not: its tables, their files, and the columns beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import pyarrow as pa

from redi_ray.pipeline.graph import Graph, Step
from redi_ray.pipeline.kinds import KINDS
from redi_ray.report.beside import COLUMN, columns_of, samples_of
from redi_ray.report.filters import BrowseError
from redi_ray.report.scan import VALUE, Shard, layout
from redi_ray.schemas import GRAIN
from redi_ray.store import storage
from redi_ray.store.manifests import current_manifest

IDS = {
    "verified": "trace_id", "traces": "trace_id", "verdicts": "trace_id", "pairs": "pair_id", "examples": "example_id",
    "groups": "group_id", "problems": "problem_id", "dev": "problem_id",
}  # fmt: skip
"""Table -> the column that its rows are called by."""
LEFT_OUT = ("rejects", "dropped")
"""Tables of rows that a step did not take."""
TRACES = ("verified", "traces")


@dataclass(frozen=True)
class RowTable:
    """A table of a step's output."""

    step: str
    table: str
    key: str
    """Of the output."""
    finished: bool
    root: str
    """Folder of the files, without a slash at its end."""
    shards: Sequence[Shard]
    tables: Sequence[str] = ()
    """All that this output has."""
    beside: Mapping[str, str] = field(default_factory=dict)
    """Column's step -> folder of its files, which have the names of these."""
    of_column: str = ""
    """The step that was asked for, where that is a column and these are its samples."""

    @property
    def id_column(self) -> str | None:
        return IDS.get(self.table)

    def name_of(self, shard: Shard) -> str:
        """A file's name within the table."""
        return shard.uri.removeprefix(self.root).lstrip("/")

    def shard(self, name: str) -> Shard:
        """Raises BrowseError where there is none."""
        if name not in self.by_name:
            raise BrowseError(f"{self.step} has no file {name} (any more); the step may have been made anew")
        return self.by_name[name]

    @cached_property
    def by_name(self) -> dict[str, Shard]:
        """The files by their names within the table."""
        return {self.name_of(shard): shard for shard in self.shards}

    @cached_property
    def schema(self) -> pa.Schema:
        """Of the first file."""
        return layout(self.shards[0].file).schema

    @cached_property
    def numeric(self) -> list[str]:
        """The columns with a number for each row."""
        return [name for name in self.beside if self.grain(name) == "row" and _has_number(self._column_schema(name))]

    def grain(self, column: str) -> str:
        """What of a row a column says something about: `row`, `span` or `token`."""
        return (self._column_schema(column).metadata or {}).get(GRAIN.encode(), b"row").decode()

    def _column_schema(self, column: str) -> pa.Schema:
        file = storage.File(self.shards[0].columns[column], 0, 0)
        return layout(file).schema


def _has_number(schema: pa.Schema) -> bool:
    kind = schema.field(VALUE).type if VALUE in schema.names else None
    return kind is not None and (pa.types.is_floating(kind) or pa.types.is_integer(kind))


def has_rows(step: Step) -> bool:
    """Whether a step's output has rows."""
    return bool(KINDS[step.kind].tables)


def rows_of(run: str, graph: Graph, name: str, table: str | None = None) -> RowTable:
    """A table of a step, of an unfinished one as far as it has got; of a column its samples. table: None takes the one that says
    most. Raises BrowseError where there are no rows, GraphError where there is no such step."""
    step, of_column = graph[name], ""
    if step.gives == COLUMN and table in (None, *TRACES):
        of_column, step = name, graph[samples_of(run, graph, name)]
    folder, key, finished = _output(run, step)
    below = storage.list_infos(folder, ".parquet")
    root = storage.resolve(folder).rstrip("/")
    within = [(file, file.uri.removeprefix(root).lstrip("/").split("/")) for file in below]
    there = {parts[0] for _, parts in within if len(parts) > 1}
    tables = [one for one in (*KINDS[step.kind].tables, *LEFT_OUT) if one in there]
    chosen = table or next(iter(tables), None)
    if chosen is None or chosen not in tables:
        what = f"has no {table}" if table else "has no rows yet" if not finished else "has no rows"
        raise BrowseError(f"step {step.name} {what}; tables with rows: {', '.join(tables) or 'none'}")
    files = [file for file, parts in within if parts[0] == chosen]
    beside = _beside(run, graph, step.name, files, f"{root}/{chosen}") if chosen in TRACES else {}
    names = [file.uri.removeprefix(f"{root}/{chosen}").lstrip("/") for file in files]
    shards = [
        Shard(file, {column: storage.join(place, name) for column, place in beside.items()})
        for file, name in zip(files, names, strict=True)
    ]
    return RowTable(step.name, chosen, key, finished, f"{root}/{chosen}", shards, tables, beside, of_column)


def _output(run: str, step: Step) -> tuple[str, str, bool]:
    """Folder, key, and whether it is finished: of the output in force, else of the one that is being made."""
    stage = storage.join(run, step.stage)
    if storage.exists(storage.join(stage, "manifest.json")):
        made = current_manifest(run, step.stage)
        return made.uri, made.key, True
    files = storage.list_infos(stage, ".parquet")
    if not files:
        raise BrowseError(f"step {step.name} has no rows yet (redi-ray run CONFIG --until {step.name})")
    newest = max(files, key=lambda file: file.modified).uri
    key = newest.removeprefix(storage.resolve(stage).rstrip("/")).lstrip("/").split("/")[0]
    return storage.join(stage, key), key, False


def _beside(run: str, graph: Graph, samples: str, files: Sequence[storage.File], root: str) -> dict[str, str]:
    """The finished columns of these samples that have all of their files."""
    found, names = dict[str, str](), {file.uri.removeprefix(root).lstrip("/") for file in files}
    for step in columns_of(graph, samples):
        if storage.exists(storage.join(run, step.stage, "manifest.json")):
            place = storage.resolve(current_manifest(run, step.stage).table(COLUMN)).rstrip("/")
            if names <= {uri.removeprefix(place).lstrip("/") for uri in storage.list_files(place, ".parquet")}:
                found[step.name] = place
    return found
