"""Protects curves: a file that grows, that a resumed training cuts, half a line, and that no spike is lost in drawing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from redi_ray.ui.series import POINTS, AllSeries, Series, smoothed, thinned


def line(step: int, **values: object) -> str:
    return json.dumps({"step": step, **values}) + "\n"


def test_what_is_added_is_read_and_half_a_line_waits(root: str):
    from redi_ray.store.storage import write_bytes

    uri = f"{root}/metrics.jsonl"
    series = Series(uri)
    series.update()
    assert series.length == 0
    write_bytes(uri, (line(0, loss=1.0) + line(1, loss=0.5)[:9]).encode())
    series.update()
    assert series.column("loss")[1].tolist() == [1.0]
    write_bytes(uri, (line(0, loss=1.0) + line(1, loss=0.5, late=3.0) + line(2, loss=None)).encode())
    series.update()
    assert series.column("loss")[0].tolist() == [0, 1]
    assert series.column("late")[0].tolist() == [1]
    assert series.length == 3


def test_a_resumed_training_counts_as_last_written(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(line(step, loss=float(step)) for step in range(60)))
    series = AllSeries().get(str(path))
    path.write_text("".join(line(step, loss=float(step)) for step in range(30)) + line(30, loss=-1.0))
    series.update()
    assert series.column("loss")[1].tolist() == [*map(float, range(30)), -1.0]
    path.open("a").write(line(29, loss=-2.0))  # a line again, in the same file
    series.update()
    assert series.column("loss")[1][-2:].tolist() == [28.0, -2.0]


def test_damaged_lines_are_passed_over(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    odd = ["no json", "[1]", '{"loss": 2}', '{"step": 1e400}', '{"step": -1}', f'{{"step": {"9" * 30}}}', "[" * 9999]
    odd += [f'{{"step": 1, "loss": {"9" * 400}}}']
    path.write_text(line(0, loss=1.0) + "\n".join([*odd, ""]) + line(1, loss="x") + line(2, loss=3.0))
    assert AllSeries().get(str(path)).column("loss")[1].tolist() == [1.0, 3.0]


def test_a_spike_among_many_values_is_drawn():
    values = np.zeros(100_000)
    values[70_001] = 9.0
    at = thinned(values)
    assert len(at) <= POINTS + 2
    assert 70_001 in at
    assert (at[0], at[-1]) == (0, 99_999)


def test_smoothing_keeps_a_constant_and_follows_a_step():
    assert np.allclose(smoothed(np.full(50, 3.0), 0.9), 3.0)
    risen = smoothed(np.concatenate([np.zeros(50), np.ones(50)]), 0.9)
    assert risen[50] < 0.2
    assert risen[-1] > 0.99
