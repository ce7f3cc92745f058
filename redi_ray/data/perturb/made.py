"""Variants by rule: a task for each shard of problems, which makes and checks each variant of each problem.

Below the step's folder, `work/made/<shard>` (MADE): every variant that was tried, and the originals where they are wanted.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from redi_ray.config.answers import AnswerSettings
from redi_ray.config.perturb import PerturbSettings
from redi_ray.data.shard_tasks import each_shard
from redi_ray.data.sources.world import answer as answer_of_chain
from redi_ray.data.sources.world_variants import WORLD_PERTURBATIONS
from redi_ray.schemas import PROBLEM
from redi_ray.store import parquet, storage
from redi_ray.text.dialogue import dialogue_of
from redi_ray.text.extract import extract_gold
from redi_ray.text.perturbations import PERTURBATIONS
from redi_ray.text.variants import NotPerturbed, Problem, variant_id

MADE = pa.schema(
    [
        *PROBLEM,
        pa.field(
            "trace_id", pa.string(), nullable=False
        ),  # the same as problem_id: what a model is asked about goes by it
        pa.field("perturbation", pa.string()),  # null: an original
        pa.field("original_id", pa.string(), nullable=False),
        pa.field("original", pa.string(), nullable=False),  # its text
        pa.field("original_answer", pa.string()),
        pa.field(
            "reason", pa.string()
        ),  # why it is no variant; its text is then the original's, or what was made of it
    ]
)
NO_ANSWER, DIALOGUE, NO_WORDS, SAME = "no_reference_answer", "is_a_dialogue", "has_no_words", "nothing_changed"
"""Why a problem has no variants, and why a text is none."""
CHAIN = re.compile(r"\d(?:[-+*]\d)+")
"""A problem of the built-in world."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Making:
    """How, the same for every shard."""

    problems: str
    """Folder of the problems' shards."""
    out_uri: str
    settings: PerturbSettings
    answers: AnswerSettings
    """How the reference answers are read."""
    of_world: bool = False
    """Whether chains are problems of the built-in world."""

    def made(self, name: str) -> str:
        """Where a shard's variants go."""
        return storage.join(self.out_uri, "work", "made", name)


def make_variants(names: list[str], how: Making) -> None:
    """Write `work/made` for the shards of these names; those that are there stay."""
    for _ in each_shard(names, make_shard, how):
        pass


def make_shard(name: str, how: Making) -> int:
    """One shard; how many rows it has."""
    if storage.exists(how.made(name)):
        return 0
    rows = 0
    with parquet.table_writer(how.made(name), MADE) as write:
        for batch in parquet.read_batches(storage.join(how.problems, name), PROBLEM.names):
            made = [row for problem in batch.to_pylist() for row in variants_of(problem, how)]
            write(pa.Table.from_pylist(made, schema=MADE))
            rows += len(made)
    return rows


def variants_of(row: Mapping[str, Any], how: Making) -> Iterator[Row]:
    """Rows of MADE of one problem: itself, if it is wanted, and a row for each perturbation in force."""
    if how.settings.originals:
        yield as_made(row, None, row["problem"])
    is_chain = how.of_world and CHAIN.fullmatch(row["problem"]) is not None
    table = WORLD_PERTURBATIONS if is_chain else PERTURBATIONS
    whole = unfit(row, how.answers)
    problem = Problem(row["problem"], extract_gold(row["answer"], how.answers) or "" if row["answer"] else "")
    for name, settings in how.settings.rules.items():
        if whole is not None:
            yield as_made(row, name, row["problem"], reason=whole)
            continue
        if name not in table:
            yield as_made(row, name, row["problem"], reason=NO_WORDS)
            continue
        chance = random.Random(f"{how.settings.seed}/{name}/{row['problem_id']}")
        try:
            text = table[name].make(problem, chance, settings)
        except NotPerturbed as why:
            yield as_made(row, name, row["problem"], reason=str(why))
            continue
        reason = SAME if text == row["problem"] else table[name].check(problem, text)
        answer = answer_of_chain(text) if is_chain and reason is None else row["answer"]
        yield as_made(row, name, text, reason=reason, answer=answer)


def unfit(row: Mapping[str, Any], answers: AnswerSettings) -> str | None:
    """Why a problem has no variants at all, or None."""
    if not row["answer"] or extract_gold(row["answer"], answers) is None:
        return NO_ANSWER
    return DIALOGUE if len(dialogue_of(row["problem"])) > 1 else None


def as_made(
    row: Mapping[str, Any], perturbation: str | None, text: str, reason: str | None = None, answer: str | None = None
) -> Row:
    """A row of MADE, of a row of PROBLEM."""
    name = row["problem_id"] if perturbation is None else variant_id(row["problem_id"], perturbation)
    return {
        "problem_id": name,
        "trace_id": name,
        "problem": text,
        "answer": row["answer"] if answer is None else answer,
        "source": row["source"],
        "perturbation": perturbation,
        "original_id": row["problem_id"],
        "original": row["problem"],
        "original_answer": row["answer"],
        "reason": reason,
    }
