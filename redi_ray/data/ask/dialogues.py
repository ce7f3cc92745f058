"""Problems that lead a dialogue on: the first turns of imported ones, and samples' answers handed to the other speaker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from redi_ray.config.dialogues import HandOver
from redi_ray.config.prompts import PromptSettings
from redi_ray.data.ask.made import NO_TEXT, Making, problems_of_shard
from redi_ray.modeling.tokenizer import load_tokenizer
from redi_ray.schemas import CUT_OFF, PROBLEM, turns_of
from redi_ray.store import parquet, storage
from redi_ray.text.dialogue import as_problem, dialogue_of
from redi_ray.text.judgement import break_up
from redi_ray.text.prompts import problem_of
from redi_ray.text.templates import ASSISTANT, USER
from redi_ray.text.thoughts import in_parts, without_tags

ANSWER_CUT_OFF = "answer_cut_off"
"""Why a sample's dialogue is not handed over."""
READ = (*PROBLEM.names, "trace_id", "completion", "turns", "finish_reason")


@dataclass(frozen=True)
class HandingOver:
    """How, the same for every shard."""

    samples: str
    """Folder of the samples' shards."""
    out_uri: str
    settings: HandOver
    tokenizer: str
    """The base model's folder: control tokens of its are broken up."""
    trust_remote_code: bool = False


def hand_over_shard(name: str, how: HandingOver) -> Counter[str]:
    """The problems of a shard's samples; counts."""

    def making() -> Making:
        special = load_tokenizer(how.tokenizer, how.trust_remote_code).all_special_tokens
        return lambda rows: [handed_over(row, how.settings, special) for row in rows]

    return problems_of_shard(name, how.samples, how.out_uri, READ, making)


def handed_over(row: Mapping[str, Any], settings: HandOver, special_tokens: list[str]) -> dict[str, Any] | str:
    """A row of PROBLEM, or why there is none."""
    if row["finish_reason"] in CUT_OFF:
        return ANSWER_CUT_OFF
    _, response = in_parts(turns_of(row)[-1]["content"])
    said = break_up(without_tags(response).strip(), special_tokens)
    if not said:
        return NO_TEXT
    other = {USER: ASSISTANT, ASSISTANT: USER}
    turns = [*dialogue_of(row["problem"]), {"role": ASSISTANT, "content": said}]
    seen = [{"role": other[turn["role"]], "content": turn["content"]} for turn in turns]
    brief = [] if settings.brief is None else [{"role": USER, "content": settings.brief}]
    return {
        "problem_id": row["trace_id"],
        "problem": as_problem(
            [*brief, *(seen if brief else seen[1:])]
        ),  # the first turn of what comes back is the brief
        "answer": row["answer"],
        "source": row["source"],
    }


@dataclass(frozen=True)
class OpeningDialogues:
    """How, the same for every shard."""

    dialogues: str
    """Folder of the imported shards (EXAMPLE)."""
    out_uri: str
    prompt: PromptSettings
    source: str
    """What problems say that they are of."""


def openings_of_shard(name: str, how: OpeningDialogues) -> Counter[str]:
    """The problems that the dialogues of a shard begin with; counts."""
    counts: Counter[str] = Counter()
    with parquet.table_writer(storage.join(how.out_uri, "problems", name), PROBLEM) as write:
        for batch in parquet.read_batches(storage.join(how.dialogues, name), ["example_id", "messages"]):
            made = [
                {
                    "problem_id": row["example_id"],
                    "problem": problem_of(row["messages"], how.prompt),
                    "answer": None,
                    "source": how.source,
                }
                for row in batch.to_pylist()
            ]
            counts["in"] += batch.num_rows
            counts["out"] += len(made)
            write(pa.Table.from_pylist(made, schema=PROBLEM))
    return counts
