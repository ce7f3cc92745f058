"""What rows a step of a run has to look at, finished or not: its tables, their files, and the columns beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import pyarrow as pa

from redi_ray.pipeline.graph import Graph, Step
from redi_ray.pipeline.kinds import KINDS
from redi_ray.report.beside import COLUMN, columns_of, samples_of
from redi_ray.report.filters import BrowseError, TraceFilter
from redi_ray.report.scan import VALUE, Shard, layout
from redi_ray.report.side_by_side import threads
from redi_ray.schemas import GRAIN
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest, read_manifest

IDS = {
    "verified": "trace_id", "traces": "trace_id", "verdicts": "trace_id", "pairs": "pair_id", "examples": "example_id",
    "groups": "group_id", "problems": "problem_id", "dev": "problem_id", "variants": "problem_id", "reflection": "trace_id",
}  # fmt: skip
"""Table -> the column that its rows are called by."""
LEFT_OUT = ("rejects", "dropped")
"""Tables of rows that a step did not take."""
TRACES = ("verified", "traces")
COUNTED = {"verified": "out", "traces": "out", "problems": "out", "pairs": "pairs", "examples": "positives"}
"""Table -> the count of a manifest that is its rows."""


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
    counts: Mapping[str, int] = field(default_factory=dict)
    """Verdict -> rows, and "" -> all of them, as far as the output's manifest says it."""

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

    def counted(self, wanted: TraceFilter) -> int | None:
        """How many rows a filter lets through, where that is known without looking."""
        if wanted.key == TraceFilter().key:
            return self.counts.get("")
        if wanted.key == TraceFilter(verdicts=wanted.verdicts).key and len(self.counts) > 1:
            return sum(self.counts.get(verdict, 0) for verdict in set(wanted.verdicts))
        return None

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
    folder, key, made = _output(run, step)
    below = _listed(folder) if made is not None else storage.list_infos(folder, ".parquet")
    root = storage.resolve(folder).rstrip("/")
    within = [(file, file.uri.removeprefix(root).lstrip("/").split("/")) for file in below]
    there = {parts[0] for _, parts in within if len(parts) > 1}
    tables = [one for one in (*KINDS[step.kind].tables, *LEFT_OUT) if one in there]
    chosen = table or next(iter(tables), None)
    if chosen is None or chosen not in tables:
        what = f"has no {table}" if table else "has no rows yet" if made is None else "has no rows"
        raise BrowseError(f"step {step.name} {what}; tables with rows: {', '.join(tables) or 'none'}")
    files = [file for file, parts in within if parts[0] == chosen]
    names = [file.uri.removeprefix(f"{root}/{chosen}").lstrip("/") for file in files]
    beside = _beside(run, graph, step.name, set(names)) if chosen in TRACES else {}
    shards = [
        Shard(file, {column: storage.join(place, name) for column, place in beside.items()})
        for file, name in zip(files, names, strict=True)
    ]
    counts = {} if made is None else _counts(made, chosen)
    return RowTable(
        step.name, chosen, key, made is not None, f"{root}/{chosen}", shards, tables, beside, of_column, counts
    )


def _output(run: str, step: Step) -> tuple[str, str, Manifest | None]:
    """Folder, key and manifest: of the output in force, else of the one that is being made, which has no manifest yet."""
    if (made := manifest_of(run, step.stage)) is not None:
        return made.uri, made.key, made
    stage = storage.join(run, step.stage)
    files = storage.list_infos(stage, ".parquet")
    if not files:
        raise BrowseError(f"step {step.name} has no rows yet (redi-ray run CONFIG --until {step.name})")
    newest = max(files, key=lambda file: file.modified).uri
    key = newest.removeprefix(storage.resolve(stage).rstrip("/")).lstrip("/").split("/")[0]
    return storage.join(stage, key), key, None


def manifest_of(run: str, stage: str) -> Manifest | None:
    """The manifest in force of a stage; None where it is not finished."""
    uri = storage.join(run, stage, "manifest.json")
    return read_manifest(uri, run) if storage.exists(uri) else None


@lru_cache(maxsize=256)
def _listed(folder: str) -> list[storage.File]:
    """The files of a finished output, which has its key in its name and stays as it is."""
    return storage.list_infos(folder, ".parquet")


def _counts(made: Manifest, table: str) -> dict[str, int]:
    total = made.counts.get(COUNTED.get(table, ""))
    verdicts = made.facts.get("verdicts", {}) if table == "verified" else {}
    return {} if total is None else {"": total, **{name: int(count) for name, count in verdicts.items()}}


def _beside(run: str, graph: Graph, samples: str, names: set[str]) -> dict[str, str]:
    """The finished columns of these samples that have all of their files, by name."""

    def place_of(step: Step) -> str | None:
        if (made := manifest_of(run, step.stage)) is None:
            return None
        place = storage.resolve(made.table(COLUMN)).rstrip("/")
        return place if names <= {file.uri.removeprefix(place).lstrip("/") for file in _listed(place)} else None

    steps = columns_of(graph, samples)
    with threads(run) as pool:
        return {step.name: place for step, place in zip(steps, pool.map(place_of, steps), strict=True) if place}
