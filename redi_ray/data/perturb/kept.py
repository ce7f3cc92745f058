"""Which variants keep their originals' answers, and what is written of them.

Below the step's folder:

    work/moved.json      of each variant with another answer: right traces of its original, and how many are no longer right
    problems/<shard>     PROBLEM: what goes on
    variants/<shard>     VARIANT: every variant whose own check passed, with what became of its answer
    dropped/<shard>      what is no variant, with the reason
    counts/<shard>       written last of a shard's task
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from redi_ray.config.answers import VerifySettings
from redi_ray.data.curate.work import DROPPED, Drops, finish, finished
from redi_ray.data.shard_tasks import each_shard
from redi_ray.data.verify.verifier import AnswerVerifier
from redi_ray.schemas import PROBLEM, VARIANT, Verdict, turns_of
from redi_ray.store import parquet, storage
from redi_ray.text.answers import quick_verdict
from redi_ray.text.extract import extract_gold
from redi_ray.text.isolation import ComparingPool

IN, OUT, ORIGINALS = "in", "out", "originals"
CHANGED, UNCLEAR, MOVED = "answer_changed", "answer_unclear", "right_traces_moved"
"""Why a variant is dropped: its answer is another one; cannot be compared; right traces are no longer right by it."""
OF = "of/"
"""Begins counts of one perturbation: `of/names/made`."""
BATCH = 256
"""Traces verified at a time."""


@dataclass(frozen=True)
class Keeping:
    """How, the same for every shard."""

    out_uri: str
    changed: Literal["drop", "keep"]
    verify: VerifySettings

    def made(self, name: str) -> str:
        return storage.join(self.out_uri, "work", "made", name)

    @property
    def moved(self) -> str:
        return storage.join(self.out_uri, "work", "moved.json")


def look_at_traces(made: Sequence[str], verified: Sequence[str], how: Keeping) -> None:
    """Write `work/moved.json`: right traces of originals are verified with each variant's own reference answer, where that is
    written otherwise than the original's; the others' verdicts cannot move. One task; of each such variant its answer is held."""
    if storage.exists(how.moved):
        return
    answers: dict[str, list[tuple[str, str]]] = {}
    for uri in made:
        for batch in parquet.read_batches(
            uri, ["problem_id", "original_id", "perturbation", "answer", "original_answer", "reason"]
        ):
            for row in batch.to_pylist():
                if (
                    row["perturbation"] is not None
                    and row["reason"] is None
                    and row["answer"] != row["original_answer"]
                ):
                    answers.setdefault(row["original_id"], []).append((row["problem_id"], row["answer"]))
    found: dict[str, list[int]] = {variant: [0, 0] for variants in answers.values() for variant, _ in variants}
    with AnswerVerifier(how.verify) as verifier:
        for some in _batches(_right(verified, answers)):
            verdicts = verifier.verify_many([(answer, text) for _, answer, text in some])
            for (variant, _, _), told in zip(some, verdicts, strict=True):
                found[variant][0] += 1
                found[variant][1] += told.verdict != Verdict.CORRECT
    storage.write_json(how.moved, found)


def _right(verified: Sequence[str], answers: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(variant, its answer, a right trace's last turn)."""
    for uri in verified:
        for batch in parquet.read_batches(uri, ["problem_id", "verdict", "completion", "turns"]):
            for row in batch.to_pylist():
                if row["verdict"] == Verdict.CORRECT:
                    text = turns_of(row)[-1]["content"]
                    yield from ((variant, answer, text) for variant, answer in answers.get(row["problem_id"], ()))


def _batches(rows: Iterator[Any]) -> Iterator[list[Any]]:
    some: list[Any] = []
    for row in rows:
        some.append(row)
        if len(some) == BATCH:
            yield some
            some = []
    if some:
        yield some


def keep_variants(names: list[str], how: Keeping) -> Counter[str]:
    """Write the tables of the shards of these names; `in = out + sum(reasons)`, and counts of each perturbation under `of/`."""
    counts: Counter[str] = Counter()
    for _, found in each_shard(names, keep_shard, how):
        counts.update(found)
    return counts


def keep_shard(name: str, how: Keeping) -> Counter[str]:
    """One shard; a shard that is done is only counted."""
    mark = storage.join(how.out_uri, "counts", name.removesuffix(".parquet") + ".json")
    if (known := finished(mark)) is not None:
        return known
    counts, drops = Counter[str](), Drops()
    moved = storage.read_json(how.moved) if storage.exists(how.moved) else {}
    problems, variants = (storage.join(how.out_uri, table, name) for table in ("problems", "variants"))
    pool = ComparingPool(how.verify.answers, timeout_seconds=how.verify.timeout_seconds, memory_mb=how.verify.memory_mb)
    try:
        with parquet.table_writer(problems, PROBLEM) as write, parquet.table_writer(variants, VARIANT) as tell:
            for batch in parquet.read_batches(how.made(name)):
                rows = batch.to_pylist()
                for row, same in zip(rows, same_answers(rows, how.verify, pool), strict=True):
                    row["keeps_answer"] = same
                    row["right"], row["moved"] = moved.get(row["problem_id"], (None, None))
                    row["dropped"] = _reason(row, how, counts)
                    if row["dropped"] is not None:
                        drops.add("variant", row["dropped"], row["problem_id"], detail=row["problem"])
                told = [row for row in rows if row["perturbation"] is not None and row["reason"] is None]
                tell(pa.Table.from_pylist(told, schema=VARIANT))
                write(pa.Table.from_pylist([row for row in rows if row["dropped"] is None], schema=PROBLEM))
    finally:
        pool.close()
    if drops.rows:
        parquet.write_table(
            storage.join(how.out_uri, "dropped", name), pa.Table.from_pylist(drops.rows, schema=DROPPED)
        )
    return finish(mark, counts)


def _reason(row: Mapping[str, Any], how: Keeping, counts: Counter[str]) -> str | None:
    """Why a row goes no further, counted."""
    counts[IN] += 1
    if (name := row["perturbation"]) is None:
        counts[OUT] += 1
        counts[ORIGINALS] += 1
        return None
    why = row["reason"]
    if why is None:
        told = {True: "kept", False: "changed", None: "unclear"}[row["keeps_answer"]]
        counts.update({f"{OF}{name}/made": 1, f"{OF}{name}/{told}": 1})
        counts.update({f"{OF}{name}/{field}": row[field] for field in ("right", "moved") if row[field]})
        if how.changed == "drop":
            why = {True: None, False: CHANGED, None: UNCLEAR}[row["keeps_answer"]] or (MOVED if row["moved"] else None)
    counts[OUT if why is None else f"{name}: {why}"] += 1
    return None if why is None else f"{name}: {why}"


def same_answers(rows: Sequence[Mapping[str, Any]], settings: VerifySettings, pool: ComparingPool) -> list[bool | None]:
    """Of each row of MADE whether its reference answer says the same as its original's; None where that cannot be told."""
    found: list[bool | None] = [True if row["answer"] == row["original_answer"] else None for row in rows]
    asked = []
    for index, row in enumerate(rows):
        if found[index] is None and row["answer"] and row["original_answer"]:
            golds = [extract_gold(row[name], settings.answers) for name in ("original_answer", "answer")]
            if golds[0] is not None and golds[1] is not None:
                asked.append((index, golds[0], golds[1]))
    verdicts = [quick_verdict(gold, answer) for _, gold, answer in asked]
    hard = [(gold, answer) for (_, gold, answer), known in zip(asked, verdicts, strict=True) if known is None]
    compared = iter(pool.compare_many(hard)) if hard else iter(())
    for (index, _, _), known in zip(asked, verdicts, strict=True):
        verdict = known if known is not None else next(compared)
        found[index] = {Verdict.CORRECT: True, Verdict.WRONG: False}.get(verdict)
    return found
