"""Curations in this process, on a few rows: the very passes that Ray's workers run, one task after another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from redi_ray.config.curation import CurateConfig
from redi_ray.config.prompts import PromptSettings
from redi_ray.data.curate.contamination import BENCHMARKS
from redi_ray.data.curate.curate import CurateCounts, Worker, make_curation, run_passes
from redi_ray.data.curate.work import Curation
from redi_ray.schemas import VERIFIED_TRACE, stored_votes, trace_id
from redi_ray.store import parquet, storage

PROMPT = PromptSettings(prefix="<think>")
TABLES = ("examples", "pairs", "dropped", "pass_rates")
Rows = list[dict[str, Any]]


def trace(problem_id: str, index: int, verdict: str, text: str = "", **columns: Any) -> dict[str, Any]:
    """A VERIFIED_TRACE row; `columns` replaces others, above all `problem`, the text."""
    return {
        "problem_id": problem_id,
        "problem": f"p {problem_id}",
        "answer": "1",
        "source": "test",
        "trace_id": trace_id(problem_id, index),
        "sample_index": index,
        "completion": text or f"<think>{problem_id} {index}",
        "verdict": verdict,
        "verdict_by": stored_votes({"math_verify": verdict}),
        **columns,
    }


def solved(texts: Iterable[str], prefix: str = "p") -> Rows:
    """A correct and a wrong trace of each problem; ids are `<prefix>0`, `<prefix>1`, ..."""
    return [
        trace(f"{prefix}{number}", index, verdict, problem=text)
        for number, text in enumerate(texts)
        for index, verdict in enumerate(("correct", "wrong"))
    ]


def write_shards(folder: Path | str, shards: list[Rows]) -> list[str]:
    uris = []
    for number, rows in enumerate(shards):
        uris.append(f"{folder}/in/part-{number}.parquet")
        parquet.write_table(uris[-1], pa.Table.from_pylist(rows, schema=VERIFIED_TRACE))
    return uris


def read_out(folder: Path | str) -> dict[str, Rows]:
    return {
        name: [row for t in parquet.read_tables(storage.list_files(f"{folder}/out/{name}")) for row in t.to_pylist()]
        for name in TABLES
    }


def plan(
    folder: Path | str, tokenizer: str, shards: list[Rows], benchmarks: dict[str, str] | None = None, **config: Any
) -> Curation:
    """A curation with a task for every shard and two partitions, however small they are."""
    told = pa.Table.from_pylist(
        [{"problem_id": k, "problem": v} for k, v in (benchmarks or {}).items()], schema=BENCHMARKS
    )
    curation = make_curation(
        write_shards(folder, shards),
        f"{folder}/out",
        CurateConfig(**config),
        tokenizer=tokenizer,
        prompt=PROMPT,
        benchmarks=told if benchmarks else None,
    )
    return replace(curation, borders=tuple(range(len(shards) + 1)), partitions=2, part_problems=3)


def run_here(curation: Curation, num_problems: int = 0) -> CurateCounts:
    worker = Worker(curation)

    def run(name: str, tasks: list[int]) -> Iterator[Counter[str]]:
        for task in tasks:
            yield worker.work(name, task)

    return run_passes(curation, run, num_problems or len({row["problem_id"] for row in read_in(curation)}))


def read_in(curation: Curation) -> Rows:
    return [row for t in parquet.read_tables(list(curation.verified), ["problem_id"]) for row in t.to_pylist()]


def curate_here(folder: Path, tokenizer: str, rows: Rows, **config: Any) -> tuple[CurateCounts, dict[str, Rows]]:
    """One shard through all passes, and what came out."""
    counts = run_here(plan(folder, tokenizer, [rows], **config))
    return counts, read_out(folder)


def reasons(tables: dict[str, Rows], what: str = "problem") -> dict[str, str]:
    """Problem (or trace) -> why it went."""
    key = "trace_id" if what == "trace" else "problem_id"
    return {row[key]: row["reason"] for row in tables["dropped"] if row["what"] == what}
