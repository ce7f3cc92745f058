"""Pass `scan`: reads the shards of a group once, and hands on ids, verdicts, hashes and numbers.

It reads only the columns that the config asks for: without a block on texts, a trace costs about a hundred bytes here.
Tables: `scanned` (SCANNED, a row per trace) and `problems` (PROBLEMS, a row per problem and group), cut by partition.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa

from redi_ray.config.curation import TraceRules
from redi_ray.data.curate.contamination import BENCHMARKS, BenchmarkIndex
from redi_ray.data.curate.duplicates import FINGERPRINT, Fingerprinter
from redi_ray.data.curate.quality import trace_problem
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
from redi_ray.store import parquet
from redi_ray.text.dialogue import spoken
from redi_ray.text.language import identify
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
SEVERAL_TURNS = (
    "several_turns",
    "an example or a pair has one answer a side; a step `groups` takes traces of several turns",
)


class ProblemJudge:
    """The blocks that look at a problem's text, with what they need."""

    def __init__(self, curation: Curation) -> None:
        config = curation.config
        self.language = config.language
        self.fingerprinter = Fingerprinter(config.duplicates) if config.duplicates is not None else None
        self.index: BenchmarkIndex | None = None
        if config.contamination is not None:
            rows = next(parquet.read_tables([curation.work("benchmarks.parquet")])).select(BENCHMARKS.names).to_pylist()
            self.index = BenchmarkIndex(
                ((row["problem_id"], spoken(row["problem"])) for row in rows), config.contamination
            )

    def judge(self, problem: str, answer: str | None) -> dict[str, Any]:
        """The columns of PROBLEMS after the id."""
        if self.language is not None:
            found, confidence = identify(problem)
            if found not in self.language.allow and confidence >= self.language.min_confidence:
                return {"reason": "other_language", "detail": f"{found}, {confidence:.2f}"}
        if self.index is not None and (match := self.index.find(problem)) is not None:
            return {"reason": "contaminated", "detail": str(match)}
        return {} if self.fingerprinter is None else self.fingerprinter.fingerprint(problem, answer)


def columns_of(curation: Curation, judge: ProblemJudge) -> list[str]:
    """What must be read of the shards."""
    config = curation.config
    sides = (config.chosen, config.rejected)
    wanted = {
        "completion": any(side.read_text or side.pick in ("shortest", "longest") for side in sides),
        "finish_reason": any(not side.truncated for side in sides),
        "model": config.difficulty is not None and config.difficulty.model is not None,
        "extracted_answer": config.rejected.by_answer,
        "problem": curation.judges_problems,
        "answer": judge.fingerprinter is not None,
    }
    return ["problem_id", "trace_id", "sample_index", "verdict", "turns", *(name for name, on in wanted.items() if on)]


def scan(curation: Curation, group: int, judge: ProblemJudge) -> Counter[str]:
    """Write the group's tables; returns the counts of its traces and drops."""
    mark = curation.work("scanned", f"{group:05d}.json")
    if (known := finished(mark)) is not None:
        return known
    columns = columns_of(curation, judge)
    counts: Counter[str] = Counter()
    drops = Drops()
    traces: list[list[dict[str, Any]]] = [[] for _ in range(curation.partitions)]
    problems: dict[str, dict[str, Any]] = {}
    for shard in range(curation.borders[group], curation.borders[group + 1]):
        for number, row in stream_rows(curation.verified[shard], columns):
            counts["traces"] += 1
            traces[curation.partition_of(row["problem_id"])].append(
                _scanned(curation, row, drops, shard=shard, row=number)
            )
            if curation.judges_problems and row["problem_id"] not in problems:
                problems[row["problem_id"]] = judge.judge(spoken(row["problem"]), row.get("answer"))
    write_row_groups(curation.work("scanned", part_name(group)), traces, SCANNED)
    if curation.judges_problems:
        parts: list[list[dict[str, Any]]] = [[] for _ in range(curation.partitions)]
        for problem_id, found in problems.items():
            parts[curation.partition_of(problem_id)].append({"problem_id": problem_id, **found})
        write_row_groups(curation.work("problems", part_name(group)), parts, PROBLEMS)
    drops.write(curation, f"scan-{part_name(group)}")
    return finish(mark, counts + drops.counts)


def rules_for(curation: Curation, verdict: str) -> tuple[str, TraceRules] | None:
    """The side that a verdict allows, and its rules."""
    if verdict == Verdict.CORRECT:
        return "chosen", curation.config.chosen
    return ("rejected", curation.config.rejected) if verdict in curation.config.rejected_verdicts else None


def _scanned(curation: Curation, source: dict[str, Any], drops: Drops, *, shard: int, row: int) -> dict[str, Any]:
    """A row of SCANNED; a trace that may not be picked for its side is noted in `drops`."""
    other = curation.stands_in(shard)
    side = rules_for(curation, source["verdict"])
    side = None if other and side is not None and side[0] != "chosen" else side
    found = None if side is None else trace_problem(source, side[1], curation.prompt)
    if side is not None and source["turns"] is not None:
        found = SEVERAL_TURNS
    if side is not None and found is not None:
        drops.add("trace", f"{side[0]}_{found[0]}", source["problem_id"], source["trace_id"], found[1])
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
