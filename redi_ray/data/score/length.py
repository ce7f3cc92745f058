"""How long a sample is."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from redi_ray.config.scorers import LengthScorer
from redi_ray.data.score.scorer import Asked, Scorer, Values
from redi_ray.modeling.tokenizer import load_tokenizer
from redi_ray.schemas import turns_of
from redi_ray.text.tokens import plain_ids


def start(settings: LengthScorer, asked: Asked) -> Values:
    """Characters or tokens of the model's own turns."""
    tokenizer = load_tokenizer(asked.tokenizer, asked.trust_remote_code) if asked.tokenizer is not None else None
    assert (tokenizer is not None) == settings.needs_tokenizer

    def measure(text: str) -> int:
        return len(text) if tokenizer is None else len(plain_ids(text, tokenizer))

    def values(rows: pa.Table) -> list[dict[str, Any]]:
        own = ([turn["content"] for turn in turns_of(row) if turn["role"] == "assistant"] for row in rows.to_pylist())
        return [{"value": float(sum(map(measure, texts)))} for texts in own]

    return values


LENGTH = Scorer(("completion", "turns"), start)
