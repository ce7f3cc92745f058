"""A small run whose rows are looked at: 40 traces by their numbers, in shards of several groups of rows, scores beside them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from redi_ray.report.browse import graph_of_run
from redi_ray.report.filters import TraceFilter
from redi_ray.report.row_pages import Page, page
from redi_ray.report.row_tables import RowTable, rows_of
from redi_ray.schemas import SCORE, VERIFIED_TRACE, stored_votes
from redi_ray.store import parquet, storage
from redi_ray.store.manifests import Stage

CONFIG = """name: run
steps:
  scored: {do: score, of: verified, scorer: {name: length}}
  grouped: {do: groups, of: verified}
evaluate: {benchmarks: []}
"""
VERDICTS = ("wrong", "correct", "timeout")


def trace(number: int, **changes: Any) -> dict[str, Any]:
    verdict = VERDICTS[number % 3]
    found = {
        "problem_id": f"p{number // 2}",
        "problem": f"What is {number} + 1?",
        "answer": str(number + 1),
        "source": "book" if number % 2 else "web",
        "trace_id": f"p{number // 2}#{number % 2}",
        "sample_index": number % 2,
        "completion": "Let me think. " * (number % 7) + rf"So \boxed{{{number}}}. $5 (a+b)*",
        "turns": None,
        "finish_reason": "length" if number % 5 == 0 else "stop",
        "num_tokens": None if number % 11 == 0 else 10 * number,
        "model": "teacher",
        "sampling": None,
        "votes": None,
        "verdict": verdict,
        "verdict_by": stored_votes({"math_verify": verdict, **({"judge": "wrong"} if number % 4 == 0 else {})}),
        "extracted_answer": str(number),
    }
    return {**found, **changes}


def write_shard(stage: Stage, name: str, rows: list[dict[str, Any]]) -> None:
    """Three rows to a group, so that a shard has several."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=VERIFIED_TRACE), sink, row_group_size=3)
    storage.write_bytes(storage.join(stage.uri, "verified", "round-000", name), sink.getvalue())


def score_of(number: int) -> float | None:
    return None if number % 5 == 1 else number / 10


def make_run(uri: str, shards: int = 4, rows: int = 10, publish: bool = True) -> Stage:
    storage.write_bytes(storage.join(uri, "config.yaml"), CONFIG.encode())
    stage, column = Stage(uri, "verified", {}, {}), Stage(uri, "steps/scored/column", {}, {})
    for shard in range(shards):
        numbers = range(shard * rows, (shard + 1) * rows)
        name = f"part-{shard:02d}b.parquet"
        write_shard(stage, name, [trace(number) for number in numbers])
        scores = [{"trace_id": trace(number)["trace_id"], "value": score_of(number)} for number in numbers]
        where = storage.join(column.uri, "column", "round-000", name)
        parquet.write_table(where, pa.Table.from_pylist(scores, schema=SCORE))
    if publish:
        stage.publish(counts={"in": shards * rows, "out": shards * rows})
        column.publish(counts={"in": shards * rows, "out": shards * rows})
    return stage


def table_of(run: str, step: str = "verified", table: str | None = None) -> RowTable:
    return rows_of(run, graph_of_run(run), step, table)


def walk(run: str, wanted: TraceFilter, limit: int = 4, **asked: Any) -> list[Page]:
    """Every page, from the first to the last."""
    pages = [page(table_of(run), wanted, limit=limit, **asked)]
    while (behind := pages[-1].following or pages[-1].further) is not None:
        pages.append(page(table_of(run), wanted, limit=limit, after=behind, **asked))
    return pages


def numbers(found: Page) -> list[int]:
    return [int(row.values["extracted_answer"]) for row in found.rows]
