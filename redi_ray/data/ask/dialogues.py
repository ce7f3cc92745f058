"""Problems that lead a dialogue on: the first turns of imported ones, and samples' answers handed to the other speaker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
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
from redi_ray.text.templates import ASSISTANT, USER
from redi_ray.text.thoughts import in_parts, without_tags

ANSWER_CUT_OFF = "answer_cut_off"
"""Why a sample's dialogue is not handed over."""
OWN_SYSTEM_TURN, NO_QUESTION = "own_system_turn", "no_question"
"""Why a dialogue opens none."""
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
    """Folder of the imported shards."""
    table: str
    """What they are: `examples` (EXAMPLE) or `groups` (GROUP), as dialogues of several answers are imported."""
    out_uri: str
    prompt: PromptSettings
    source: str
    """What problems say that they are of."""


CHATS = {"examples": ("example_id", "messages"), "groups": ("group_id", "prompt")}
"""Table -> the columns that hold an id, and the turns that a dialogue begins with."""


def openings_of_shard(name: str, how: OpeningDialogues) -> Counter[str]:
    """The problems that the dialogues of a shard begin with; counts: `in`, `out`, and the rest by reason."""
    counts: Counter[str] = Counter()
    key, chat = CHATS[how.table]
    with parquet.table_writer(storage.join(how.out_uri, "problems", name), PROBLEM) as write:
        for batch in parquet.read_batches(storage.join(how.dialogues, name), [key, chat]):
            made = []
            for row in batch.to_pylist():
                counts["in"] += 1
                asked, reason = opening_of(row[chat], how.prompt)
                if asked is None:
                    counts[reason] += 1
                else:
                    made.append({"problem_id": row[key], "problem": asked, "answer": None, "source": how.source})
            counts["out"] += len(made)
            write(pa.Table.from_pylist(made, schema=PROBLEM))
    return counts


def opening_of(chat: Sequence[Mapping[str, str]], prompt: PromptSettings) -> tuple[str | None, str]:
    """The first question of a chat, without what `model.prompt` has put around it; or None and why there is none: the chat
    begins otherwise, or with a system turn of its own, which a problem cannot hold."""
    turns = list(chat)
    if turns and turns[0]["role"] == "system":
        if turns[0]["content"] != prompt.system:
            return None, OWN_SYSTEM_TURN
        turns = turns[1:]
    if not turns or turns[0]["role"] != USER:
        return None, NO_QUESTION
    asked = turns[0]["content"]
    before, _, after = prompt.template.partition("{problem}")
    wrapped = len(asked) >= len(before) + len(after) and asked.startswith(before) and asked.endswith(after)
    return (asked[len(before) : len(asked) - len(after)] if wrapped else asked), ""
