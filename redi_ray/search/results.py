"""From the trials' records to the table, the winner, and how much each parameter mattered."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from redi_ray.search.records import TrialRecord
from redi_ray.search.space import Values, describe

SHARES = ("dev_accuracy", "dev_pass@1", "pair_accuracy")
"""Metrics that are shown in per cent."""
BINS = 4
"""Groups that a parameter with many values is cut into for its importance."""


def shown(value: float, metric: str) -> str:
    """A metric's value as people read it."""
    return f"{100 * value:.1f}" if metric in SHARES else f"{value:.3g}"


@dataclass(frozen=True)
class Point:
    """A point of the space with its trials, one per seed."""

    values: Values
    trials: tuple[TrialRecord, ...]

    @property
    def name(self) -> str:
        return describe(self.values)

    @property
    def value(self) -> float | None:
        """Mean over the seeds that have one."""
        found = [trial.value for trial in self.trials if trial.value is not None]
        return fmean(found) if found else None

    @property
    def sem(self) -> float | None:
        """Standard error of `value` from the sampling errors of its trials."""
        errors = [trial.sem for trial in self.trials if trial.value is not None]
        known = [error for error in errors if error is not None]
        return math.hypot(*known) / len(known) if known and len(known) == len(errors) else None

    @property
    def collapsed(self) -> int:
        """How many of its trials collapsed."""
        return sum(trial.collapsed for trial in self.trials)

    def eligible(self, num_seeds: int) -> bool:
        """Whether it may win: trained to the end with every seed, none of which collapsed."""
        done = [trial for trial in self.trials if trial.status == "done" and not trial.collapsed]
        return len(done) == num_seeds and all(trial.value is not None for trial in done)


def to_points(records: Sequence[TrialRecord]) -> list[Point]:
    """Records by point, in their order."""
    groups: dict[str, list[TrialRecord]] = {}
    for record in records:
        groups.setdefault(json.dumps(record.values, sort_keys=True), []).append(record)
    return [Point(members[0].values, tuple(members)) for members in groups.values()]


def winner(points: Sequence[Point], mode: Literal["max", "min"], num_seeds: int) -> Point | None:
    """The best point that may win, of equals the first in the order of the space; None if there is none."""
    sign = 1.0 if mode == "max" else -1.0
    able = [point for point in points if point.eligible(num_seeds)]
    return max(able, key=lambda point: sign * (point.value or 0.0)) if able else None


def within_one_sem(points: Sequence[Point], best: Point, mode: Literal["max", "min"], num_seeds: int) -> list[Point]:
    """Other points that the best one does not clearly beat: not further from it than its SEM."""
    if best.value is None or best.sem is None:
        return []
    sign, able = (1.0 if mode == "max" else -1.0), [point for point in points if point.eligible(num_seeds)]
    return [
        p for p in able if p.values != best.values and p.value is not None and sign * (best.value - p.value) <= best.sem
    ]


# --------------------------------------------------------------------------------------------------------- importance


@dataclass(frozen=True)
class Importance:
    """How much of the metric's variance over the trials goes with one parameter."""

    path: str
    share: float
    """Variance between the means of the groups with equal values, over the whole variance (eta squared), 0 to 1."""
    by_chance: float
    """What a parameter without any effect would have on the average: (groups - 1) / (trials - 1)."""


def importances(records: Sequence[TrialRecord]) -> list[Importance]:
    """One for each path, the largest first; none with fewer than three values, or where all are equal.

    On a grid the shares add up to at most 1; what is missing is interaction, and noise. Every trial counts with its value,
    also where it collapsed or was stopped.
    """
    measured = [record for record in records if record.value is not None]
    if len(measured) < 3:
        return []
    values = np.array([record.value for record in measured], dtype=np.float64)
    total = float(((values - values.mean()) ** 2).sum())
    if total == 0:
        return []
    found = []
    for path in measured[0].values:
        labels = group_labels([record.values[path] for record in measured])
        groups = [values[labels == label] for label in np.unique(labels)]
        between = sum(len(group) * (group.mean() - values.mean()) ** 2 for group in groups)
        found.append(Importance(path, float(between / total), (len(groups) - 1) / (len(measured) - 1)))
    return sorted(found, key=lambda item: -item.share)


def group_labels(values: Sequence[Any]) -> np.ndarray:
    """int[number of values]: equal values share a label; many different numbers are cut into BINS of equal size."""
    names = [json.dumps(value, sort_keys=True) for value in values]
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if numeric and len(set(names)) > 2 * BINS:
        edges = np.quantile(np.array(values, dtype=np.float64), np.linspace(0, 1, BINS + 1)[1:-1])
        return np.digitize(np.array(values, dtype=np.float64), edges)
    order = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([order[name] for name in names])


# -------------------------------------------------------------------------------------------------------------- table


def to_table(records: Sequence[TrialRecord]) -> pa.Table:
    """One row per trial: a column for each path of the space under its own name, then how the trial went."""
    columns: dict[str, Any] = {"trial": [record.key for record in records]}
    for path in dict.fromkeys(path for record in records for path in record.values):
        columns[path] = _column([record.values.get(path) for record in records])
    for name, kind in RESULT.items():
        columns[name] = pa.array([getattr(record, name) for record in records], kind)
    return pa.table(columns)


RESULT = {
    "seed": pa.int64(),
    "status": pa.string(),
    "collapsed": pa.bool_(),
    "reason": pa.string(),
    "value": pa.float64(),
    "sem": pa.float64(),
    "steps": pa.int64(),
    "total_steps": pa.int64(),
    "tokens": pa.float64(),
    "train_seconds": pa.float64(),
    "worker_hours": pa.float64(),
    "uses_gpu": pa.bool_(),
    "uri": pa.string(),
}
"""Columns of `trials.parquet` behind the paths, fields of TrialRecord."""


def _column(values: Sequence[Any]) -> pa.Array:
    """Numbers, booleans and texts as they are; anything else, or a mixture, as JSON."""
    present = [value for value in values if value is not None]
    for kinds, arrow in (((bool,), pa.bool_()), ((int, float), pa.float64()), ((str,), pa.string())):
        if all(isinstance(v, kinds) and isinstance(v, bool) == (bool in kinds) for v in present):
            return pa.array(values, arrow)
    return pa.array([None if value is None else json.dumps(value, sort_keys=True) for value in values])


def cost(records: Sequence[TrialRecord]) -> dict[str, float]:
    """Hours of workers, tokens and steps that the trials took, and the steps of all of them in full."""
    return {
        "worker_hours": sum(record.worker_hours for record in records),
        "tokens": sum(record.tokens for record in records),
        "steps": sum(record.steps for record in records),
        "steps_in_full": sum(record.total_steps for record in records),
    }
