"""Finding and reading traces to look at: of a run, of one of its stages, or of any folder of Parquet.

Nothing is read that need not be: a filter on small columns first asks each shard, from those columns alone, whether it
has a match, and reading stops at the limit, so that a corpus of any size can be looked at from a laptop.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import yaml

from redi_ray.config.load import load_config
from redi_ray.pipeline.graph import Graph, Step
from redi_ray.pipeline.kinds import KINDS
from redi_ray.pipeline.standard import step_named
from redi_ray.report.filters import BrowseError, TraceFilter
from redi_ray.report.lineage import graph_of_record
from redi_ray.report.scan import Shard, matches
from redi_ray.schemas import UNFINISHED, votes_of
from redi_ray.store import storage
from redi_ray.store.storage import File

TABLES = ("verified", "verdicts", "traces")
"""Tables that hold traces, the one that says most first."""
TRACES = ("verified", "traces")
"""Types of outputs that do."""
VOTED = ("votes", "verdict_by")
"""Columns of votes, which rows to look at hold by the verifiers' names."""
ROWS_AT_A_TIME = 64


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
    return _graph_of(storage.read_bytes(uri) if storage.exists(uri) else b"")


@lru_cache(maxsize=64)
def _graph_of(config: bytes) -> Graph:
    try:
        found = yaml.safe_load(config)
    except yaml.YAMLError:
        found = {}
    return graph_of_record(found if isinstance(found, dict) else {})[0]


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


def read_traces(
    shards: list[str], wanted: TraceFilter, limit: int | None = None, columns: Mapping[str, str] = MappingProxyType({})
) -> Iterator[dict[str, Any]]:
    """The first `limit` traces that `wanted` lets through, in the order of the shards; all their columns.

    columns: shards of numbers beside a shard that is looked at alone. Raises BrowseError if a shard cannot be read or lacks a
    column that is filtered by.
    """
    left = limit
    for uri in shards:
        for rows in matches(Shard(File(uri, 0, 0), columns), wanted, left):
            for row in rows:
                yield row | {name: votes_of(row[name]) for name in VOTED if name in row}
            left = None if left is None else left - len(rows)
            if left == 0:
                return


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
