"""Whether a sample's answer fulfils a rule, or which parts of it do."""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa

from redi_ray.config.curation import TraceRules
from redi_ray.config.scorers import RuleScorer
from redi_ray.data.curate.blocks import first_why, trace_blocks
from redi_ray.data.score.scorer import Asked, Scorer, Values
from redi_ray.schemas import SCORE, SPAN_SCORE, turns_of

LABEL = "match"


def start(settings: RuleScorer, asked: Asked) -> Values:
    """A number for each answer, or the matches in every turn of the model's own."""
    pattern = re.compile(settings.pattern or "", re.DOTALL)
    blocks = trace_blocks(TraceRules(format=settings.format), asked.prompt)

    def fulfils(text: str) -> bool:
        if settings.format is not None:
            return first_why(blocks, {"completion": text}) is None
        return pattern.search(text) is not None

    def matches(row: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            {"turn": number, "start": found.start(), "end": found.end(), "label": LABEL, "value": settings.value}
            for number, turn in enumerate(turns_of(row))
            if turn["role"] == "assistant"
            for found in pattern.finditer(turn["content"])
            if found.end() > found.start()
        ]

    def values(rows: pa.Table) -> list[dict[str, Any]]:
        if settings.spans:
            return [{"spans": matches(row)} for row in rows.to_pylist()]
        return [{"value": settings.value if fulfils(text) else 0.0} for text in rows["completion"].to_pylist()]

    return values


RULE = Scorer(("completion", "turns"), start, schema=lambda settings: SPAN_SCORE if settings.spans else SCORE)
