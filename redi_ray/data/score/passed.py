"""The share of tests that a sample passes, as verification has stored it."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from redi_ray.config.scorers import PassedScorer
from redi_ray.data.score.scorer import Asked, Scorer, Values
from redi_ray.schemas import TESTED


def start(settings: PassedScorer, asked: Asked) -> Values:
    """Passed of all, where all were run."""

    def share(told: dict[str, Any] | None) -> float | None:
        return told["passed"] / told["total"] if told is not None and told["run"] == told["total"] else None

    def values(rows: pa.Table) -> list[dict[str, Any]]:
        return [{"value": share(told)} for told in rows[TESTED.name].to_pylist()]

    return values


PASSED = Scorer((TESTED.name,), start)
