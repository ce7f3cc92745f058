"""Critical tokens by rollouts (Critical Tokens Matter, arXiv 2411.19943), which judge a column of numbers of tokens: is the
number small where going on stops to help?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from redi_ray.data.columns import check_grain
from redi_ray.data.locate.rollouts import AT
from redi_ray.schemas import Verdict
from redi_ray.store import parquet

FOUND = pa.schema(
    [
        pa.field("trace_id", pa.string(), nullable=False),
        pa.field("right", pa.list_(pa.int64()), nullable=False),  # continuations from behind each token that got there
        pa.field("critical", pa.int64()),  # token, from 0; null where none is
        pa.field("value", pa.float64()),  # the column's there
        pa.field("rank", pa.float64()),  # share of the other tokens whose value is smaller, ties by half
    ]
)
"""A row of what was found of a sample."""
TOP = (1, 5)
NO_NUMBERS, OTHER_TOKENS, NO_CONTINUATION = "no_numbers", "other_tokens", "no_continuation"
"""Why a sample that was drawn is not judged."""


def critical_token(right: Sequence[int], later: int) -> int | None:
    """The first token behind which no continuation is right, and behind no later one more than `later` are; None if none is.

    Example: `critical_token([5, 0, 9, 0, 1, 0], 3) == 3`.
    """
    most = 0
    found = None
    for token in range(len(right) - 1, -1, -1):
        most = max(most, right[token])
        if most > later:
            break
        found = token if right[token] == 0 else found
    return found


def rank_of(values: Sequence[float], token: int) -> float | None:
    """Share of the other tokens whose value is smaller, those of equal value by half: 0 for the smallest, .5 by chance. None
    where there is no other."""
    numbers = np.asarray(values, np.float64)
    below, equal = np.count_nonzero(numbers < numbers[token]), np.count_nonzero(numbers == numbers[token]) - 1
    return None if len(numbers) < 2 else float((below + equal / 2) / (len(numbers) - 1))


def judge_column(
    verified: Sequence[str], column: Sequence[str], tokenizer: str, later: int
) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Rows of FOUND and the counts of samples: `drawn`, `judged`, and the rest by reason.

    verified: shards of the continuations. column: shards of the numbers. Raises ColumnError unless those are of this
    tokenizer's tokens.
    """
    for shard in column[:1]:
        check_grain(shard, "token", tokenizer)
    right, seen = _tally(verified)
    rows, counts = list[dict[str, Any]](), Counter[str](drawn=len(seen))
    for shard in column:
        for batch in parquet.read_batches(shard, ["trace_id", "values"]):
            for row in batch.to_pylist():
                if (tokens := seen.get(row["trace_id"])) is not None:
                    found = _judged(row["trace_id"], row["values"], tokens, right, later)
                    counts["judged" if not isinstance(found, str) else found] += 1
                    rows += [] if isinstance(found, str) else [found]
    return sorted(rows, key=lambda row: row["trace_id"]), counts


def _tally(verified: Sequence[str]) -> tuple[Counter[tuple[str, int]], dict[str, set[int]]]:
    """Right continuations by sample and token, and the tokens of each sample that have continuations."""
    right, seen = Counter[tuple[str, int]](), dict[str, set[int]]()
    for shard in verified:
        for batch in parquet.read_batches(shard, ["problem_id", "verdict"]):
            for row in batch.to_pylist():
                sample, _, token = row["problem_id"].rpartition(AT)
                seen.setdefault(sample, set()).add(int(token))
                right[sample, int(token)] += row["verdict"] == Verdict.CORRECT
    return right, seen


def _judged(
    sample: str, values: list[float] | None, tokens: set[int], right: Mapping[tuple[str, int], int], later: int
) -> dict[str, Any] | str:
    if values is None:
        return NO_NUMBERS
    count = max(tokens) + 1
    if len(values) - count not in (0, 1):  # the token that closes a turn has a number, and nothing behind it
        return OTHER_TOKENS
    if len(tokens) < count:
        return NO_CONTINUATION
    behind = [right[sample, token] for token in range(count)]
    found = critical_token(behind, later)
    told = {} if found is None else {"value": float(values[found]), "rank": rank_of(values[:count], found)}
    return {"trace_id": sample, "right": behind, "critical": found, "value": None, "rank": None, **told}


def scores(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of the samples that have a critical token: `auc`, the probability that another token of the sample has a larger number,
    with its standard error over samples; the shares whose critical token is among the smallest 1 and 5 numbers, and what chance
    would give; its mean place, 0 being the first token, which a column that says nothing may still follow."""
    found = [row for row in rows if row["rank"] is not None]
    told: dict[str, Any] = {
        "with_critical": len(found),
        "without_critical": sum(row["critical"] is None for row in rows),
    }
    if not found:
        return told
    lengths = np.array([len(row["right"]) for row in found], np.float64)
    ranks = np.array([row["rank"] for row in found])
    sem = float(ranks.std(ddof=1) / len(ranks) ** 0.5) if len(ranks) > 1 else None
    told |= {"auc": float(1 - ranks.mean()), "auc_sem": sem, "value": float(np.mean([row["value"] for row in found]))}
    for top in TOP:
        told[f"top_{top}"] = float(np.mean(ranks * (lengths - 1) < top))
        told[f"top_{top}_by_chance"] = float(np.minimum(1.0, top / lengths).mean())
    places = np.array([row["critical"] for row in found]) / np.maximum(1, lengths - 1)
    return told | {"place": float(places.mean())}
