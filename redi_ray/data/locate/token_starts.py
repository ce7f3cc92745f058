"""Beginnings of wrong samples, one behind each token, from which a model goes on to see where all is lost."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pyarrow as pa

from redi_ray.config.prompts import PromptSettings
from redi_ray.config.token_steps import CriticalSettings
from redi_ray.data.curate.work import order_key
from redi_ray.data.locate.rollouts import ASKED, AT
from redi_ray.data.sample.samples import BEGUN
from redi_ray.data.shard_tasks import each_shard
from redi_ray.modeling.tokenizer import load_tokenizer
from redi_ray.schemas import PROBLEM, Verdict, turns_of
from redi_ray.store import parquet, storage
from redi_ray.text.tokens import places_in

SEVERAL_TURNS, NOT_PLACED, NOT_DRAWN, TOO_LONG = "several_turns", "does_not_fit_the_prompt", "not_drawn", "too_long"
"""Why a sample is not looked at, beside its verdict."""
READS = (*PROBLEM.names, "trace_id", "completion", "turns", "verdict")


@dataclass(frozen=True)
class TokenStarting:
    """How, the same for every shard."""

    samples: str
    """Folder of the verified shards."""
    out_uri: str
    settings: CriticalSettings
    tokenizer: str
    prompt: PromptSettings
    trust_remote_code: bool = False


def make_token_starts(names: list[str], how: TokenStarting) -> tuple[int, Counter[str]]:
    """Write `<out_uri>/problems/<shard>` (ASKED, the id `<trace_id>@<token>` naming the last token of a beginning) for the
    samples that are drawn; how many beginnings, and the counts of samples: `samples`, `drawn`, and the rest by reason.

    Called again it writes the same. Drawn are those that come first when the ids are shuffled by the seed.
    """
    fit, counts = list[tuple[str, str]](), Counter[str]()
    for _, (found, left_out) in each_shard(names, fitting, how):
        fit, counts = (
            heapq.nsmallest(how.settings.max_samples, chain(fit, map(tuple, found))),
            counts + Counter(left_out),
        )
    drawn = frozenset(name for _, name in fit)
    written = sum(rows for _, rows in each_shard(names, write_shard, how, drawn))
    counts["drawn"] = len(drawn)
    counts[NOT_DRAWN] = counts["samples"] - sum(number for reason, number in counts.items() if reason != "samples")
    return written, +counts


def fitting(name: str, how: TokenStarting) -> tuple[list[tuple[str, str]], dict[str, int]]:
    """(order, id) of a shard's samples that come first, and the counts of the samples and of those that cannot be drawn."""
    tokenizer, counts, found = load_tokenizer(how.tokenizer, how.trust_remote_code), Counter[str](), []
    for batch in parquet.read_batches(storage.join(how.samples, name), list(READS)):
        for row in batch.to_pylist():
            counts["samples"] += 1
            if isinstance(places := places_of(row, tokenizer, how), str):
                counts[places] += 1
            else:
                found.append((order_key(how.settings.seed, row["trace_id"]), row["trace_id"]))
    return heapq.nsmallest(how.settings.max_samples, found), dict(counts)


def places_of(row: Mapping[str, Any], tokenizer: Any, how: TokenStarting) -> list[tuple[int, int]] | str:
    """The characters of a sample's tokens, or why a model cannot go on from behind each of them."""
    if row["verdict"] != Verdict.WRONG:
        return f"verdict_{row['verdict']}"
    if len(turns_of(row)) > 1:
        return SEVERAL_TURNS
    try:
        places = places_in(row["completion"], tokenizer, how.prompt)
    except ValueError:
        return NOT_PLACED
    return places if 0 < len(places) <= how.settings.max_tokens_each else TOO_LONG if places else NOT_PLACED


def write_shard(name: str, how: TokenStarting, drawn: Collection[str]) -> int:
    """Write a shard's beginnings; how many, and no file for none."""
    tokenizer, starts = load_tokenizer(how.tokenizer, how.trust_remote_code), list[dict[str, Any]]()
    for batch in parquet.read_batches(storage.join(how.samples, name), list(READS)):
        for row in batch.to_pylist():
            if row["trace_id"] not in drawn:
                continue
            places = places_of(row, tokenizer, how)
            assert not isinstance(places, str), "it was drawn"
            told = {field: row[field] for field in PROBLEM.names}
            starts += [
                {**told, "problem_id": f"{row['trace_id']}{AT}{token}", BEGUN: row["completion"][:end]}
                for token, (_, end) in enumerate(places)
            ]
    if starts:
        parquet.write_table(storage.join(how.out_uri, "problems", name), pa.Table.from_pylist(starts, schema=ASKED))
    return len(starts)
