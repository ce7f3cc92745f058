"""A column of judged steps against one that is taken for true, beside what needs no judge: chance, the steps' lengths and places.

One task reads the columns a few rows at a time, and holds some 40 bytes a step.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from redi_ray.config.step_judges import CompareSettings
from redi_ray.data.ask.questions import in_part
from redi_ray.data.columns import beside, check_grain
from redi_ray.eval.steps import (
    UNREADABLE,
    best_in_hindsight,
    first_error_scores,
    step_auc,
)
from redi_ray.text.step_verdicts import labels_below
from redi_ray.text.steps import UNSEEN, first_wrong

OTHER_PART, NOT_KNOWN, OTHER_STEPS = "of_another_part", "not_known", "other_steps"
"""Why a sample is not compared: its problem is left out; no labels are known of it; the columns cut it into other steps."""
Spans = list[dict[str, Any]]


@dataclass
class Steps:
    """What has been read of all samples that are compared."""

    labels: list[int | None] = field(default_factory=list)
    """Of each sample its first wrong step."""
    predictions: list[int | None] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)
    """Of each step."""
    seen: list[bool] = field(default_factory=list)
    """Whether the labels that are taken for true say something of it."""
    values: list[float] = field(default_factory=list)
    """The column's numbers, NaN where there is none."""
    lengths: list[float] = field(default_factory=list)
    places: list[float] = field(default_factory=list)
    chance: list[float] = field(default_factory=list)


def compare(shards: Sequence[tuple[str, str, str]], settings: CompareSettings) -> tuple[Counter[str], dict[str, Any]]:
    """The counts of samples (`in`, `compared`, reasons of the rest, `without_prediction` of the compared) and the scores.

    shards: of the samples, of the column, of what is taken for true. Raises ColumnError where they do not belong together.
    """
    counts, steps = Counter[str](), Steps()
    for samples, column, truth in shards:
        for uri in (column, truth):
            check_grain(uri, "span")
        for rows, (found, known) in beside(samples, [column, truth], ["problem_id"]):
            told = zip(rows.to_pylist(), found["spans"].to_pylist(), known["spans"].to_pylist(), strict=True)
            for row, mine, theirs in told:
                counts["in"] += 1
                if (reason := _reason(row, mine, theirs, settings)) is not None:
                    counts[reason] += 1
                    continue
                counts["compared"] += 1
                counts["without_prediction"] += not mine
                _add(steps, row["trace_id"], mine, theirs, settings)
    return counts, _scores(steps) if counts["compared"] else {}


def _reason(row: Mapping[str, Any], mine: Spans | None, theirs: Spans | None, settings: CompareSettings) -> str | None:
    if not in_part(settings.part, row["problem_id"]):
        return OTHER_PART
    if not theirs:
        return NOT_KNOWN
    return OTHER_STEPS if mine and _places(mine) != _places(theirs) else None


def _places(spans: Spans) -> list[tuple[int, int, int]]:
    return [(span["turn"], span["start"], span["end"]) for span in spans]


def predicted(spans: Spans | None, threshold: float) -> int | None:
    """The first wrong step that a column names: by its labels, or, without them, by its numbers; UNREADABLE where it names none
    and does not say that all are right."""
    if not spans:
        return UNREADABLE
    told = [span["label"] for span in spans]
    labels = labels_below([span["value"] for span in spans], threshold) if None in told else told
    return UNREADABLE if labels is None else first_wrong(labels)


def _add(steps: Steps, trace_id: str, mine: Spans | None, theirs: Spans, settings: CompareSettings) -> None:
    wrong = first_wrong([span["label"] for span in theirs])
    steps.labels.append(wrong)
    steps.predictions.append(predicted(mine, settings.threshold))
    steps.starts.append(len(steps.right))
    for at, span in enumerate(theirs):
        value = mine[at]["value"] if mine else None
        steps.right.append(at != wrong)
        steps.seen.append(span["label"] != UNSEEN and (wrong is None or at <= wrong))
        steps.values.append(float("nan") if value is None else value)
        steps.lengths.append(float(span["start"] - span["end"]))  # the longer, the less likely right
        steps.places.append(float(-at))
        steps.chance.append(_chance(settings.seed, trace_id, at))


def _chance(seed: int, trace_id: str, at: int) -> float:
    digest = hashlib.blake2b(f"{seed}/{trace_id}/{at}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def _scores(steps: Steps) -> dict[str, Any]:
    """Of the column, and under `baselines` of what needs no judge, each at the threshold that suits it best."""
    starts, right, seen = np.array(steps.starts), np.array(steps.right), np.array(steps.seen)
    columns = {name: np.array(getattr(steps, name)) for name in ("values", "chance", "lengths", "places")}
    numbered = np.isfinite(columns["values"])

    def auc(values: np.ndarray, which: np.ndarray) -> float | None:
        return step_auc(values[which], right[which])

    def of_baseline(values: np.ndarray) -> dict[str, Any]:
        return {**best_in_hindsight(steps.labels, values, starts), "auc": auc(values, seen)}

    own: dict[str, Any] = {
        **first_error_scores(steps.labels, steps.predictions),
        "auc": auc(columns["values"], seen & numbered),
    }
    if numbered.all():
        own["best_in_hindsight"] = best_in_hindsight(steps.labels, columns["values"], starts)
    return {
        **own,
        "samples_with_error": sum(label is not None for label in steps.labels),
        "steps": len(right),
        "steps_seen": int(seen.sum()),
        "steps_without_number": int((seen & ~numbered).sum()),
        "baselines": {name: of_baseline(columns[name]) for name in ("chance", "lengths", "places")},
    }
