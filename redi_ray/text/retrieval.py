"""How good a query is by what a search finds with it: ranking measures, and the reward of Rec-R1 (arXiv 2503.24289)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Sequence

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
BAD_FORMAT = -2.0
"""Reward of an output that is no rewrite."""
FORMAT_BONUS = 0.1
"""What a rewrite that finds anything has on top of its NDCG."""
ANSWER = re.compile(r"<answer>(.*)</answer>", re.DOTALL)


def ndcg(retrieved: Sequence[str], relevant: Collection[str], k: int, distinct: bool = True) -> float:
    """Normalised discounted cumulative gain of the first `k` found, in [0, 1]; gains are 0 or 1, discounts log2(rank + 1).

    An item that is found twice gains once. distinct: an item that is named twice among `relevant` counts once. Rec-R1 counts
    it as often as it is named, though it can be found once only, so that a perfect ranking stays below 1: False does so, too.
    Nothing relevant is 0. Raises ValueError where `k` is not positive.
    """
    if k < 1:
        raise ValueError(f"k must be >= 1, got {k}")
    wanted = set(relevant)
    ideal = min(len(wanted) if distinct else len(relevant), k)
    if not ideal:
        return 0.0
    gains = (1 / math.log2(rank + 1) for rank, item in _hits(retrieved, wanted) if rank <= k)
    return sum(gains) / sum(1 / math.log2(rank + 1) for rank in range(1, ideal + 1))


def recall(retrieved: Sequence[str], relevant: Collection[str], k: int) -> float:
    """Share of the relevant items among the first `k` found; 0 where nothing is relevant."""
    wanted = set(relevant)
    return sum(rank <= k for rank, _ in _hits(retrieved, wanted)) / len(wanted) if wanted else 0.0


def precision(retrieved: Sequence[str], relevant: Collection[str], k: int) -> float:
    """Share of relevant ones among the first `k` places, empty ones included."""
    return sum(rank <= k for rank, _ in _hits(retrieved, set(relevant))) / k


def reciprocal_rank(retrieved: Sequence[str], relevant: Collection[str]) -> float:
    """1 / rank of the first relevant item found, 0 if there is none."""
    return next((1 / rank for rank, _ in _hits(retrieved, set(relevant))), 0.0)


def _hits(retrieved: Sequence[str], wanted: set[str]) -> list[tuple[int, str]]:
    """(rank from 1, item) of each wanted item at its first place."""
    left, found = set(wanted), []
    for rank, item in enumerate(retrieved, start=1):
        if item in left:
            left.remove(item)
            found.append((rank, item))
    return found


def read_query(output: str) -> str | None:
    """The rewritten query of a model's output, None where the format is not kept: each of the four tags exactly once, in order,
    and in the answer a JSON object with a text `query`."""
    places = [output.find(tag) for tag in TAGS]
    if any(output.count(tag) != 1 for tag in TAGS) or places != sorted(places):
        return None
    answer = ANSWER.search(output)
    assert answer is not None
    try:
        value = json.loads(answer[1])
    except (ValueError, RecursionError):
        return None
    query = value.get("query") if isinstance(value, dict) else None
    return query if isinstance(query, str) and query.strip() else None


def query_reward(output: str, gain: float | None, bad_format: float = BAD_FORMAT, bonus: float = FORMAT_BONUS) -> float:
    """Rec-R1's reward of an output: `bad_format`, or `bonus` and the NDCG of what its query finds, or 0 if that is nothing.

    gain: the NDCG; None where the search failed, which counts as nothing found.
    """
    if read_query(output) is None:
        return bad_format
    return bonus + gain if gain else 0.0
