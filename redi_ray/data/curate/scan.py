"""Pass `scan`: reads the shards of a group once, and hands on ids, verdicts, hashes and numbers.

It reads only the columns that the config asks for: without a block on texts, a trace costs about a hundred bytes here.
Tables: `scanned` (SCANNED, a row per trace) and `problems` (PROBLEMS, a row per problem and group), cut by partition.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa

from redi_ray.data.curate.blocks import Blocks, Side, first_why
from redi_ray.data.curate.duplicates import FINGERPRINT
from redi_ray.data.curate.work import (
    PLACED,
    Curation,
    Drops,
    finish,
    finished,
    part_name,
    stream_rows,
    write_row_groups,
)
from redi_ray.schemas import Verdict
from redi_ray.text.dialogue import spoken
from redi_ray.text.normalize import canonical

SCANNED = pa.schema(
    [
        *PLACED,
        pa.field("candidate", pa.bool_(), nullable=False),  # for the side that its verdict allows
        pa.field("counts", pa.bool_(), nullable=False),  # in the pass rate
        pa.field("chars", pa.int64()),
        pa.field("answer", pa.string()),  # extracted, in one spelling
    ]
)
PROBLEMS = pa.schema(
    [
        pa.field("problem_id", pa.string(), nullable=False),
        pa.field("reason", pa.string()),  # why the problem goes
        pa.field("detail", pa.string()),
        *FINGERPRINT,
    ]
)
RATED = (Verdict.CORRECT, Verdict.WRONG, Verdict.NO_ANSWER)
"""Verdicts that tell whether the problem was solved."""
MAX_ANSWER_CHARS = 500
BY_LENGTH = ("shortest", "longest")
"""Picks that go by a trace's characters."""
SEVERAL_TURNS = (
    "several_turns",
    "an example or a pair has one answer a side; a step `groups` takes traces of several turns",
)


def columns_of(curation: Curation, blocks: Blocks) -> list[str]:
    """What must be read of the shards."""
    config = curation.config
    wanted = blocks.reads | {"completion" for side in (config.chosen, config.rejected) if side.pick in BY_LENGTH}
    wanted |= {"model"} if config.difficulty is not None and config.difficulty.model is not None else set()
    wanted |= {"extracted_answer"} if config.rejected.by_answer else set()
    return ["problem_id", "trace_id", "sample_index", "verdict", "turns", *sorted(wanted)]


def scan(curation: Curation, group: int, blocks: Blocks) -> Counter[str]:
    """Write the group's tables; returns the counts of its traces and drops."""
    mark = curation.work("scanned", f"{group:05d}.json")
    if (known := finished(mark)) is not None:
        return known
    columns = columns_of(curation, blocks)
    counts: Counter[str] = Counter()
    drops = Drops()
    traces: list[list[dict[str, Any]]] = [[] for _ in range(curation.partitions)]
    problems: dict[str, dict[str, Any]] = {}
    for shard in range(curation.borders[group], curation.borders[group + 1]):
        for number, row in stream_rows(curation.verified[shard], columns):
            counts["traces"] += 1
            traces[curation.partition_of(row["problem_id"])].append(
                _scanned(curation, blocks, row, drops, shard=shard, row=number)
            )
            if blocks.read_problems and row["problem_id"] not in problems:
                problems[row["problem_id"]] = blocks.judge(spoken(row["problem"]), row.get("answer"))
    write_row_groups(curation.work("scanned", part_name(group)), traces, SCANNED)
    if blocks.read_problems:
        parts: list[list[dict[str, Any]]] = [[] for _ in range(curation.partitions)]
        for problem_id, found in problems.items():
            parts[curation.partition_of(problem_id)].append({"problem_id": problem_id, **found})
        write_row_groups(curation.work("problems", part_name(group)), parts, PROBLEMS)
    drops.write(curation, f"scan-{part_name(group)}")
    return finish(mark, counts + drops.counts)


def side_of(curation: Curation, verdict: str) -> Side | None:
    """The side that a verdict allows."""
    if verdict == Verdict.CORRECT:
        return "chosen"
    return "rejected" if verdict in curation.config.rejected_verdicts else None


def _scanned(
    curation: Curation, blocks: Blocks, source: dict[str, Any], drops: Drops, *, shard: int, row: int
) -> dict[str, Any]:
    """A row of SCANNED; a trace that may not be picked for its side is noted in `drops`."""
    other = curation.stands_in(shard)
    side = side_of(curation, source["verdict"])
    side = None if other and side != "chosen" else side
    found = None if side is None else first_why(blocks.traces[side], source)
    if side is not None and source["turns"] is not None:
        found = SEVERAL_TURNS
    if found is not None:
        drops.add("trace", f"{side}_{found[0]}", source["problem_id"], source["trace_id"], found[1])
    difficulty, answer = curation.config.difficulty, source.get("extracted_answer")
    named = difficulty is None or difficulty.model is None or source["model"] == difficulty.model
    return {
        "problem_id": source["problem_id"],
        "sample_index": source["sample_index"],
        "shard": shard,
        "row": row,
        "verdict": source["verdict"],
        "candidate": side is not None and found is None,
        "counts": named and not other and source["verdict"] in RATED,
        "chars": len(source["completion"]) if "completion" in source else None,
        "answer": spelling(answer),
    }


def spelling(answer: str | None) -> str | None:
    """An extracted answer in the one spelling that it is counted by; null or empty where none was read."""
    return canonical(answer) if answer and len(answer) <= MAX_ANSWER_CHARS else answer
