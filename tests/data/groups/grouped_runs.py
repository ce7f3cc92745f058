"""Groups made of samples given by hand, without Ray."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from curation_runs import Rows

from redi_ray.config.group_steps import GroupSettings
from redi_ray.config.prompts import PromptSettings
from redi_ray.data.groups.make import GroupCounts, Worker, plan, run_passes
from redi_ray.data.groups.scan import Grouping
from redi_ray.schemas import SCORE, SPAN_SCORE, VERIFIED_TRACE
from redi_ray.store import parquet, storage

PLAIN = PromptSettings(prefix="")


def write(folder: Path, name: str, shards: list[Rows], schema: pa.Schema) -> list[str]:
    uris = [f"{folder}/{name}/part-{number}.parquet" for number in range(len(shards))]
    for uri, rows in zip(uris, shards, strict=True):
        parquet.write_table(uri, pa.Table.from_pylist(rows, schema=schema))
    return uris


def grouped(
    folder: Path,
    tokenizer: str,
    shards: list[Rows],
    *,
    columns: dict[str, list[list[Any]]] | None = None,
    prompt: PromptSettings = PLAIN,
    limit: int = 10**6,
    **settings: Any,
) -> tuple[GroupCounts, Rows]:
    """All passes in this process, a task for every shard; the counts, and the groups in the order of their ids.

    columns: name -> values, shard by shard; `spans` has spans.
    """
    made = {}
    for name, values in (columns or {}).items():
        field, schema = ("spans", SPAN_SCORE) if name == "spans" else ("value", SCORE)
        rows = [
            [{"trace_id": row["trace_id"], field: value} for row, value in zip(shard, mine, strict=True)]
            for shard, mine in zip(shards, values, strict=True)
        ]
        made[name] = tuple(write(folder, name, rows, schema))
    grouping = Grouping(
        **plan(write(folder, "in", shards, VERIFIED_TRACE)),
        out_uri=f"{folder}/out",
        tokenizer=tokenizer,
        prompt=prompt,
        settings=GroupSettings(**settings),
        max_prompt_tokens=limit,
        max_response_tokens=limit,
        scores=tuple((name, made[name]) for name in settings.get("scores", {})),
        spans=made.get("spans"),
    )
    worker = Worker(replace(grouping, borders=tuple(range(len(shards) + 1)), partitions=2))

    def run(name: str, tasks: list[int]) -> Iterator[Counter[str]]:
        for task in tasks:
            yield worker.work(name, task)

    counts = run_passes(worker.grouping, run)
    assert run_passes(worker.grouping, run) == counts, "what is done is counted again, not done again"
    groups = [
        row for table in parquet.read_tables(storage.list_files(f"{folder}/out/groups")) for row in table.to_pylist()
    ]
    assert counts.groups + counts.repeated == len(groups)
    assert counts.repeated or counts.members == sum(len(group["members"]) for group in groups)
    return counts, sorted(groups, key=lambda group: group["group_id"])
