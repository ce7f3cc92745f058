"""Two columns of numbers for each token, which should be the same: how far they are apart. Read a few rows at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from redi_ray.config.token_steps import CheckSettings
from redi_ray.data.columns import ColumnError, beside, check_grain
from redi_ray.schemas import TOKENIZER
from redi_ray.store import parquet

NOT_IN_BOTH = "not_in_both"
"""Why a sample is not compared: one of the columns says nothing of it."""
BINS = 10.0 ** np.arange(-8, 3)
"""Differences (nats) up to which tokens are counted."""


def differences(shards: Sequence[tuple[str, str, str]]) -> tuple[Counter[str], dict[str, Any]]:
    """The counts of samples (`in`, `compared`, NOT_IN_BOTH), and what is to be said of the compared tokens.

    shards: of the samples, and of the two columns. Facts: `tokens`; `max_difference`, `mean_difference` and `signed_difference`
    (the first column less the second, mean) in nats a token; `worst`, the sample of the largest; `share_up_to`, difference ->
    share of the tokens. Raises ColumnError where the columns are not of the same samples, tokenizer, or number of tokens.
    """
    counts, bins = Counter[str](), np.zeros(len(BINS), np.int64)
    total, signed, largest, worst = 0.0, 0.0, -1.0, None
    for samples, first, second in shards:
        _check_tokenizers(first, second)
        for rows, columns in beside(samples, [first, second], []):
            values = zip(rows["trace_id"].to_pylist(), *(column["values"] for column in columns), strict=True)
            for trace, mine, theirs in values:
                counts["in"] += 1
                if not (mine.is_valid and theirs.is_valid):
                    counts[NOT_IN_BOTH] += 1
                    continue
                apart = _apart(trace, mine.values.to_numpy(), theirs.values.to_numpy())
                counts.update(compared=1, tokens=len(apart))
                size = np.abs(apart)
                total, signed = total + float(size.sum()), signed + float(apart.sum())
                bins += (size[:, None] <= BINS).sum(0)
                if size.max(initial=0.0) > largest:
                    largest, worst = float(size.max(initial=0.0)), trace
    tokens = counts.pop("tokens", 0)
    if not tokens:
        return counts, {}
    facts = {"tokens": tokens, "max_difference": largest, "worst": worst}
    facts |= {"mean_difference": total / tokens, "signed_difference": signed / tokens}
    shares = {f"{border:g}": float(share) for border, share in zip(BINS, bins / tokens, strict=True)}
    return counts, {**facts, "share_up_to": shares}


def _check_tokenizers(first: str, second: str) -> None:
    check_grain(first, "token")
    told = parquet.read_schema(first).metadata.get(TOKENIZER.encode(), b"").decode()
    check_grain(second, "token", told or None)


def _apart(trace: str, mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """`[n]` float64; a number that is none is infinitely far from everything."""
    if len(mine) != len(theirs):
        raise ColumnError(
            f"{trace}: one column has {len(mine)} tokens and the other {len(theirs)}: they were made with other "
            "prompts or templates"
        )
    apart = mine.astype(np.float64) - theirs.astype(np.float64)
    return np.where(np.isfinite(apart), apart, np.inf)


def fault(facts: dict[str, Any], settings: CheckSettings) -> str | None:
    """What is too far apart, or None."""
    limits = {"max_difference": settings.max_difference, "mean_difference": settings.mean_difference}
    over = [
        f"{name} {facts[name]:.3g} > {limit:g}"
        for name, limit in limits.items()
        if limit is not None and facts[name] > limit
    ]
    if not over:
        return None
    return f"{', '.join(over)} nats a token over {facts['tokens']} tokens, the most in {facts['worst']}"
