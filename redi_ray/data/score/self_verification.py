"""The parts of samples that verify themselves: attempts and verifications, each with a reward (S2R, arXiv 2502.12853)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa

from redi_ray.config.scorers import SelfVerificationScorer
from redi_ray.data.score.scorer import Asked, Scorer, Values
from redi_ray.data.verify.verifier import AnswerVerifier
from redi_ray.schemas import SCORE, SPAN_SCORE, Verdict, turns_of
from redi_ray.text.self_verification import Part, kept, labelled, parts_of, spelt, truths


def start(settings: SelfVerificationScorer, asked: Asked) -> Values:
    """A span for each part that stays, labelled, with +1 or -1, or the outcome alone; null for a sample whose parts do not take
    turns."""
    assert asked.verify is not None
    verify = replace(asked.verify, processes=1)

    def values(rows: pa.Table) -> list[dict[str, Any]]:
        samples = [(row, parts_of(row["completion"], settings.form)) for row in rows.to_pylist()]
        attempts = [
            (row["answer"], row["completion"][part.start : part.end])
            for row, parts in samples
            for part in parts
            if part.kind == "R"
        ]
        with AnswerVerifier(verify) as verifier:
            right = iter([found.verdict == Verdict.CORRECT for found in verifier.verify_many(attempts)])
        found = [spans(row, parts, [next(right) for part in parts if part.kind == "R"]) for row, parts in samples]
        return [{"spans": one} if settings.at == "parts" else {"value": one and outcome(one)} for one in found]

    def spans(row: dict[str, Any], parts: list[Part], right: list[bool]) -> list[dict[str, Any]] | None:
        if len(turns_of(row)) > 1:
            return None
        word = spelt(parts, truths(parts, right, row["completion"], settings.form))
        if (stay := kept(word)) is None:
            return None
        said = zip(parts, labelled(word[: 2 * stay]), strict=False)
        return [
            {"turn": 0, "start": part.start, "end": part.end, "label": label, "value": 1.0 if label[1] == "+" else -1.0}
            for part, label in said
        ]

    return values


def outcome(spans: list[dict[str, Any]]) -> float:
    """The value of the last attempt."""
    return next(float(span["value"]) for span in reversed(spans) if span["label"][0] == "R")


SELF_VERIFICATION = Scorer(
    ("completion", "turns", "answer"), start, schema=lambda settings: SPAN_SCORE if settings.at == "parts" else SCORE
)
