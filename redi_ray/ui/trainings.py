"""The trainings of a run in a table: how far each is, what it has come to, and whether the guard saw a collapse."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean

from redi_ray.errors import StorageError
from redi_ray.report.runs import metrics_of
from redi_ray.report.under_way import TRAINS
from redi_ray.ui.series import AllSeries, Series
from redi_ray.ui.snapshot import Snapshot

LAST_SHARE = 10
"""Last values are means over one in so many steps."""
SHOWN = ("loss", "margin", "chosen_logp", "rejected_logp", "tokens_per_second", "peak_memory_gib")


@dataclass(frozen=True)
class TrainingRow:
    """One training."""

    name: str
    status: str
    """`done`, how it ended early, or `under way`."""
    why: str
    steps: int
    total: int | None
    last: dict[str, float]
    """Means over the last tenth of the steps."""
    accuracy: float | None
    """On development problems, the newest."""
    best_accuracy: float | None
    trips: int
    """Steps at which the guard saw a collapse."""
    seconds: float | None


def training_rows(kept: AllSeries, found: Snapshot) -> list[TrainingRow]:
    """Of every model that is, or is being, trained, in the graph's order."""
    return list(_rows(kept, found))


def _rows(kept: AllSeries, found: Snapshot) -> Iterator[TrainingRow]:
    works = {work.step: work for work in found.works if work.kind in TRAINS}
    arms = {arm.name: arm for arm in found.record.arms}
    for name in dict.fromkeys([*found.record.graph.giving("model"), *arms]):
        work, arm = works.get(name), arms.get(name)
        made = arm.checkpoint if arm else None
        uri = work.uri if work else made.uri if made else None
        try:
            series = kept.get(metrics_of(uri), complete=work is None) if uri else None
        except StorageError:
            series = None
        if series is None or not series.length:
            continue
        facts = made.facts if made and not work else {}
        accuracy = series.column("dev_accuracy")[1]
        trips = int((series.column("collapse")[1] > 0).sum())
        yield TrainingRow(
            name,
            "under way" if work else str(facts.get("status", "done")),
            str(facts.get("reason") or facts.get("first_trip") or ""),
            int(series.steps[-1]) + 1,
            work.total if work else facts.get("total_steps", facts.get("steps")),
            dict(_last(series)),
            float(accuracy[-1]) if len(accuracy) else None,
            float(accuracy.max()) if len(accuracy) else None,
            trips,
            made.seconds if made and not work else None,
        )


def _last(series: Series) -> Iterator[tuple[str, float]]:
    for name in SHOWN:
        values = series.column(name)[1]
        if len(values):
            mean = fmean(values[-max(1, len(values) // LAST_SHARE) :])
            if math.isfinite(mean):
                yield name, mean
