"""Numbers against verdicts: the calibration by hand, and which samples count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from redi_ray.eval.scores import against_verdicts, calibration
from redi_ray.schemas import SCORE, VERIFIED_TRACE
from redi_ray.store import parquet


def test_calibration_by_hand() -> None:
    found = calibration(np.array([0.15, 0.15, 0.95, 1.0]), np.array([0, 1, 1, 1]))
    assert found["bins"] == [
        {"n": 2, "mean": 0.15, "right": 0.5},
        {"n": 2, "mean": pytest.approx(0.975), "right": 1.0},
    ]
    assert found["ece"] == pytest.approx((0.35 + 0.025) / 2)
    assert found["brier"] == pytest.approx((0.15**2 + 0.85**2 + 0.05**2) / 4)
    assert found["accuracy"] == 0.75
    assert calibration(np.array([-0.1, 0.5]), np.array([0, 1])) is None, "no probabilities"


def test_only_clear_verdicts_and_numbers_count(tmp_path: Path) -> None:
    verdicts, values = ["correct", "wrong", "timeout", "wrong", "correct"], [0.9, 0.2, 0.1, None, 0.3]
    none = {name: None for name in VERIFIED_TRACE.names}
    told = {"problem_id": "p", "problem": "1+1", "sample_index": 0, "completion": "2", "verdict_by": []}
    rows = [{**none, **told, "trace_id": f"p#{n}", "verdict": verdict} for n, verdict in enumerate(verdicts)]
    parquet.write_table(str(tmp_path / "verified"), pa.Table.from_pylist(rows, schema=VERIFIED_TRACE))
    column = [{"trace_id": f"p#{n}", "value": value} for n, value in enumerate(values)]
    parquet.write_table(str(tmp_path / "column"), pa.Table.from_pylist(column, schema=SCORE))
    found = against_verdicts([(str(tmp_path / "verified"), str(tmp_path / "column"))])
    assert (found["right"], found["wrong"], found["auc"]) == (2, 1, 1.0)
