"""Samples of groups as problems that ask whether they are right, and the way back: which verifications belong to which sample."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from redi_ray.config.self_verification import ExamineSettings
from redi_ray.data.shard_tasks import each_shard
from redi_ray.modeling.tokenizer import load_tokenizer
from redi_ray.schemas import GROUP, PROBLEM, Verdict
from redi_ray.store import parquet, storage
from redi_ray.text.judgement import break_up
from redi_ray.text.thoughts import without_tags

Checks = dict[str, list[str]]
"""A sample, by `check_id` -> true verifications of it."""


def check_id(group_id: str, at: int) -> str:
    """The problem that asks about member number `at` of a group."""
    return f"{group_id}#{at}"


@dataclass(frozen=True)
class Examining:
    """How, the same for every shard."""

    groups: str
    """Folder of the groups' shards."""
    out_uri: str
    settings: ExamineSettings
    tokenizer: str
    """The base model's folder: control tokens of its are broken up."""
    trust_remote_code: bool = False


def examine(names: list[str], how: Examining) -> dict[str, int]:
    """Write `problems` (PROBLEM) for the shards of these names; counts: `in`, `out`, and samples of several turns."""
    counts = dict.fromkeys(("in", "out", "several_turns"), 0)
    for _, found in each_shard(names, examine_shard, how):
        counts = {name: counts[name] + found[name] for name in counts}
    return counts


def examine_shard(name: str, how: Examining) -> dict[str, int]:
    """One shard."""
    special, asked, samples = load_tokenizer(how.tokenizer, how.trust_remote_code).all_special_tokens, 0, 0
    with parquet.table_writer(storage.join(how.out_uri, "problems", name), PROBLEM) as write:
        for batch in parquet.read_batches(storage.join(how.groups, name), GROUP.names):
            rows = batch.to_pylist()
            made = [row for group in rows for row in questions(group, how.settings, special)]
            samples, asked = samples + sum(len(group["members"]) for group in rows), asked + len(made)
            write(pa.Table.from_pylist(made, schema=PROBLEM))
    return {"in": samples, "out": asked, "several_turns": samples - asked}


def questions(group: Mapping[str, Any], settings: ExamineSettings, special: list[str]) -> Iterator[dict[str, Any]]:
    """A row of PROBLEM for each sample of one turn. The problem is what the prompt asks last."""
    problem = next(message["content"] for message in reversed(group["prompt"]) if message["role"] == "user")
    for at, member in enumerate(group["members"]):
        if len(member["turns"]) == 1:
            told = {"problem": problem, "solution": without_tags(member["turns"][0]["content"]).strip()}
            yield {
                "problem_id": check_id(group["group_id"], at),
                "problem": settings.prompt.format(**{name: break_up(text, special) for name, text in told.items()}),
                "answer": settings.right if member["side"] > 0 else settings.wrong,
                "source": "examine",
            }


def find_checks(names: Sequence[str], groups: str, checks: Sequence[str], out_uri: str) -> None:
    """Write where the true verifications of each shard of groups lie, in one task, which holds their ids, some 100 bytes each."""
    of_group = {
        group: number
        for number, name in enumerate(names)
        for batch in parquet.read_batches(storage.join(groups, name), ["group_id"])
        for group in batch["group_id"].to_pylist()
    }
    places: list[dict[int, list[int]]] = [defaultdict(list) for _ in names]
    for place, shard in enumerate(checks):
        row = 0
        for batch in parquet.read_batches(shard, ["problem_id", "verdict"]):
            for asked, verdict in zip(batch["problem_id"].to_pylist(), batch["verdict"].to_pylist(), strict=True):
                number = of_group.get(asked.rpartition("#")[0]) if verdict == Verdict.CORRECT else None
                if number is not None:
                    places[number][place].append(row)
                row += 1
    for name, found in zip(names, places, strict=True):
        storage.write_json(_place(out_uri, name), {str(place): rows for place, rows in found.items()})


def read_checks(name: str, checks: Sequence[str], out_uri: str) -> Checks:
    """The true verifications of a shard of groups, in the order of their shards."""
    found: Checks = defaultdict(list)
    for place, rows in storage.read_json(_place(out_uri, name)).items():
        for _, row in parquet.read_rows(checks[int(place)], rows, ["problem_id", "completion"]):
            found[row["problem_id"]].append(row["completion"])
    return found


def _place(out_uri: str, name: str) -> str:
    return storage.join(out_uri, "work", "checks", f"{name}.json")
