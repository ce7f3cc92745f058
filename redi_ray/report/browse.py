"""Finding and reading traces to look at: of a run, of one of its stages, or of any folder of Parquet.

Nothing is read that need not be: a filter on small columns first asks each shard, from those columns alone, whether it
has a match, and reading stops at the limit, so that a corpus of any size can be looked at from a laptop.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from redi_ray.config.load import load_config
from redi_ray.errors import UserError
from redi_ray.pipeline.graph import Graph, Step
from redi_ray.pipeline.kinds import KINDS
from redi_ray.pipeline.standard import step_named
from redi_ray.report.lineage import graph_of_record
from redi_ray.schemas import UNFINISHED, Verdict, votes_of
from redi_ray.store import storage

TABLES = ("verified", "verdicts", "traces")
"""Tables that hold traces, the one that says most first."""
TRACES = ("verified", "traces")
"""Types of outputs that do."""
VOTED = ("votes", "verdict_by")
"""Columns of votes, which rows to look at hold by the verifiers' names."""
ROWS_AT_A_TIME = 64


class BrowseError(UserError):
    """There is nothing to look at, or it lacks what a filter asks for."""


@dataclass(frozen=True)
class TraceFilter:
    """Which traces to show; empty fields let everything through."""

    verdicts: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    problem_ids: list[str] = field(default_factory=list)
    min_length: int | None = None
    """Length of the completion in characters."""
    max_length: int | None = None
    text: str | None = None
    """Must occur in the problem, the completion or the extracted answer, in any case of letters."""

    def __post_init__(self) -> None:
        known = [str(verdict) for verdict in Verdict]
        if unknown := [name for name in self.verdicts if name not in known]:
            raise BrowseError(f"no verdict {', '.join(unknown)}; they are {', '.join(known)}")

    def small(self, schema: pa.Schema) -> pc.Expression | None:
        """The part that small columns decide. Raises BrowseError if a column is missing."""
        found: pc.Expression | None = None
        for column, values in (
            ("verdict", self.verdicts),
            ("source", self.sources),
            ("problem_id", self.problem_ids),
        ):
            if values:
                require_column(schema, column)
                found = _both(found, pc.field(column).isin(values))
        return found

    def whole(self, schema: pa.Schema) -> pc.Expression | None:
        """All of it. Raises BrowseError if a column is missing."""
        found = self.small(schema)
        if self.min_length is not None or self.max_length is not None:
            require_column(schema, "completion")
            length = pc.utf8_length(pc.field("completion"))
            found = found if self.min_length is None else _both(found, length >= self.min_length)
            found = found if self.max_length is None else _both(found, length <= self.max_length)
        if self.text:
            columns = [name for name in ("problem", "completion", "extracted_answer") if name in schema.names]
            matches: pc.Expression | None = None
            for column in columns:
                match = pc.match_substring(pc.field(column), self.text, ignore_case=True)
                matches = match if matches is None else matches | match
            found = found if matches is None else _both(found, matches)
        return found


def _both(one: pc.Expression | None, other: pc.Expression) -> pc.Expression:
    return other if one is None else one & other


def require_column(schema: pa.Schema, column: str) -> None:
    """Raise BrowseError, with the columns that are there, unless `column` is among them."""
    if column not in schema.names:
        raise BrowseError(
            f"these traces have no `{column}`, so it cannot be filtered by; they have {', '.join(schema.names)}"
        )


def find_traces(target: str, step: str | None = None) -> list[str]:
    """The Parquet shards of a run (its folder or its config), of a stage's folder, or of any folder or file.

    step: whose rows of a run; None takes the latest traces of the standard line. Raises BrowseError if there are none.
    """
    target = run_uri_of(target)
    if not storage.exists(target):
        raise BrowseError(f"{target} is not there; name a run's folder, its config, or a folder of Parquet files")
    graph = graph_of_run(target)
    tables: tuple[str, ...] = TABLES
    if step is None:
        stages = [
            stage for one in reversed(list(graph)) if one.gives in TRACES and not one.own for stage in _stages(one)
        ]
    else:
        step = step_named(graph, step)
        tables = _tables(graph, step)
        stages = [graph[step].stage]
    finished = [stage for stage in stages if storage.exists(storage.join(target, stage, "manifest.json"))]
    if step is not None and not finished:
        raise BrowseError(
            f"{storage.join(target, stages[0])}: step {step} is not finished (redi-ray run CONFIG --until {step})"
        )
    if finished:
        target = storage.join(target, finished[0])
    if storage.exists(storage.join(target, "manifest.json")):
        key = storage.read_json(storage.join(target, "manifest.json")).get("key", "")
        if key and storage.exists(storage.join(target, key, "manifest.json")):
            target = storage.join(target, key)
    folders = [storage.join(target, table) for table in tables]
    target = next((folder for folder in folders if storage.list_files(folder, ".parquet")), target)
    shards = [uri for uri in storage.list_files(target, ".parquet") if "/rejects/" not in uri]
    if not shards:
        raise BrowseError(f"{target}: no Parquet file below; has the run got to its traces? (redi-ray verify CONFIG)")
    return shards


def read_as(target: str, step: str) -> str:
    """How a step has read a set that people have, in words; empty for a step that imports none. The step is finished."""
    target = run_uri_of(target)
    graph = graph_of_run(target)
    manifest = storage.read_json(storage.join(target, graph[step_named(graph, step)].stage, "manifest.json"))
    return str(manifest.get("facts", {}).get("read_as", ""))


def run_uri_of(target: str) -> str:
    """A run's folder, of that itself or of its config; any other place as it is."""
    return load_config(target).run_uri if target.endswith((".yaml", ".yml")) else target


def graph_of_run(run_uri: str) -> Graph:
    """Of the config that a run's folder holds; where there is none, of any run."""
    uri = storage.join(run_uri, "config.yaml")
    try:
        config = yaml.safe_load(storage.read_bytes(uri)) if storage.exists(uri) else {}
    except yaml.YAMLError:
        config = {}
    return graph_of_record(config if isinstance(config, dict) else {})[0]


def _stages(step: Step) -> list[str]:
    """Where the traces of a step lie: its output, else what was made for that."""
    return [step.stage, *(stage for stage in step.parts if stage.endswith("checked"))]


def _tables(graph: Graph, step: str) -> tuple[str, ...]:
    """Raises BrowseError where the output of the step has no rows, GraphError where there is no such step."""
    kind = KINDS[graph[step].kind]
    if not kind.tables:
        having = [one.name for one in graph if KINDS[one.kind].tables]
        raise BrowseError(f"step {step} gives a {kind.gives}, which has no rows; these have: {', '.join(having)}")
    return kind.tables


def read_traces(shards: list[str], wanted: TraceFilter, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """The first `limit` traces that `wanted` lets through, in the order of the shards; all their columns.

    Raises BrowseError if a shard cannot be read or lacks a column that is filtered by.
    """
    import pyarrow.dataset as ds  # which loads pandas

    shown = 0
    for uri in shards:
        fs, path = storage.filesystem(uri)
        try:
            fragments = list(ds.dataset(path, filesystem=fs, format="parquet").get_fragments())
            for fragment in fragments:
                for row in _matches(fragment, wanted):
                    yield row
                    shown += 1
                    if limit is not None and shown >= limit:
                        return
        except (pa.ArrowException, OSError) as error:
            raise BrowseError(f"{uri}: cannot be read as Parquet ({error})") from error


def _matches(fragment: Any, wanted: TraceFilter) -> Iterator[dict[str, Any]]:
    schema = fragment.physical_schema
    small, whole = wanted.small(schema), wanted.whole(schema)
    if small is not None and not fragment.count_rows(filter=small):
        return
    for batch in fragment.to_batches(
        filter=whole, batch_size=ROWS_AT_A_TIME, batch_readahead=0, fragment_readahead=0, use_threads=False
    ):
        for row in batch.to_pylist():
            yield row | {name: votes_of(row[name]) for name in VOTED if name in row}


def details(row: dict[str, Any]) -> dict[str, str]:
    """What is known of a trace's making, in words: source, model, length, finish, votes, tests."""
    found: dict[str, str] = {}
    for name in ("source", "model"):
        if row.get(name) is not None:
            found[name] = str(row[name])
    length = [f"{row['num_tokens']:,} tokens"] if row.get("num_tokens") is not None else []
    length += [f"{len(row['completion']):,} characters"] if row.get("completion") is not None else []
    if row.get("finish_reason") is not None:
        reason = row["finish_reason"]
        length.append(reason if reason == UNFINISHED else f"finished by {reason}")
    if length:
        found["length"] = ", ".join(length)
    votes = votes_of(row.get("verdict_by")) or votes_of(row.get("votes"))
    cast = [f"{name} {vote}" for name, vote in votes.items()]
    tests = row.get("tests")
    return found | ({"votes": ", ".join(cast)} if cast else {}) | ({"tests": _tests_in_words(tests)} if tests else {})


def _tests_in_words(tests: dict[str, Any]) -> str:
    """Such as: 2 of 3 passed; test 2: wrong output (word 1 is '4', expected '5')."""
    told = [f"{tests['passed']} of {tests['total']} passed"]
    for failure in tests["failures"]:
        detail = f" ({failure['detail']})" if failure["detail"] else ""
        told.append(f"test {failure['test']}: {failure['reason'].replace('_', ' ')}{detail}")
    return "; ".join(told)
