"""The winner is chosen among trials that may win, importance is what it says, and the table holds every trial."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from made_records import ALPHA, RATE, made_record, made_records

from redi_ray.search.records import any_record, read_record, rename_record, thin, write_record
from redi_ray.search.results import importances, to_points, to_table, winner, within_one_sem


def test_a_collapsed_or_unfinished_trial_never_wins_however_good_its_value():
    records = made_records()
    best = winner(to_points(records), "max", 1)
    assert best.values == {ALPHA: 1.0, RATE: 3e-5}, "alpha 1 at a rate that it survives; of equal values the first"
    tempting = [
        replace(records[0], value=1.0, collapsed=True),
        replace(records[1], value=1.0, status="stopped_by_scheduler"),
    ]
    assert winner(to_points([*tempting, *records[2:]]), "max", 1).values == best.values
    assert winner(to_points(records), "min", 1).values == {ALPHA: 0.0, RATE: 3e-5}
    assert winner(to_points([record for record in records if record.collapsed]), "max", 1) is None


def test_points_are_judged_by_the_mean_of_all_their_seeds():
    lucky = [made_record(0.5, 1e-4, seed, value=value) for seed, value in ((1, 0.95), (2, 0.70))]
    steady = [made_record(0.8, 1e-4, seed, value=value) for seed, value in ((1, 0.85), (2, 0.84))]
    half = [made_record(0.0, 1e-4, 1, value=0.99)]
    points = to_points([*lucky, *steady, *half])
    best = winner(points, "max", 2)
    assert (best.values[ALPHA], best.value) == (0.8, pytest.approx(0.845))
    assert best.sem == pytest.approx(0.02 / 2**0.5)
    assert within_one_sem(points, best, "max", 2) == []
    near = [made_record(0.2, 1e-4, seed, value=0.84) for seed in (1, 2)]
    assert [p.values[ALPHA] for p in within_one_sem(to_points([*steady, *near]), best, "max", 2)] == [0.2]


def test_importance_by_hand():
    """value = alpha + 10 rate on a full 3 x 3 grid: variances 1/6 of the steps 0.5 and 1.0, so shares of 1/5 and 4/5."""
    records = [made_record(a, r, value=a + 10 * r, collapsed=False) for a in (0.0, 0.5, 1.0) for r in (0.1, 0.2, 0.3)]
    found = importances(records)
    assert [(item.path, pytest.approx(item.share)) for item in found] == [(RATE, 0.8), (ALPHA, 0.2)]
    assert found[0].by_chance == pytest.approx(2 / 8)
    assert importances(records[:2]) == []
    assert importances([replace(record, value=0.5) for record in records]) == []


def test_the_table_has_a_row_per_trial_and_a_column_per_path():
    records = [*made_records(), replace(made_record(0.5, 3e-5), key="f", status="failed", value=None, sem=None)]
    table = to_table(records)
    assert table.num_rows == 17
    assert table[ALPHA].to_pylist()[:4] == [0.0] * 4
    assert table["worker_hours"][0].as_py() == pytest.approx(2 * 36 / 3600)
    assert table["value"].null_count == 1
    mixed = to_table([replace(records[0], values={"a": {"name": "dpo"}}), replace(records[1], values={"a": "x"})])
    assert mixed["a"].to_pylist() == ['{"name": "dpo"}', '"x"']


def test_only_what_has_ended_under_the_same_rule_is_not_run_again(tmp_path: Path):
    done, rule = made_record(0.5, 1e-4), {"kind": "asha", "grace_steps": 10}
    write_record(str(tmp_path), done)
    assert read_record(str(tmp_path), done.key) == done == read_record(str(tmp_path), done.key, rule)
    write_record(str(tmp_path), replace(done, status="stopped_by_scheduler", scheduler=rule))
    assert read_record(str(tmp_path), done.key, rule).status == "stopped_by_scheduler"
    assert read_record(str(tmp_path), done.key) is None
    assert read_record(str(tmp_path), done.key, {**rule, "grace_steps": 20}) is None
    for status in ("failed", "out_of_time", "preempted"):
        write_record(str(tmp_path), replace(done, status=status))
        assert read_record(str(tmp_path), done.key) is None, status
        assert any_record(str(tmp_path), done.key).status == status


def test_thinned_curves_keep_every_measured_accuracy_and_the_end():
    steps = [
        {"step": n, "loss": float(n), "dev_accuracy": 0.5 if n == 7 else None, "margin": None} for n in range(1001)
    ]
    curves = thin(steps, ["dev_accuracy", "loss", "margin"])
    assert set(curves) == {"step", "dev_accuracy", "loss"}
    assert 150 < len(curves["step"]) < 210
    assert (8, 0.5) in zip(curves["step"], curves["dev_accuracy"], strict=True)
    assert curves["step"][-1] == 1001


def test_a_record_takes_the_name_that_its_case_has_now(tmp_path: Path):
    record = replace(made_record(0.5, 1e-4), values={"objective": "one"})
    write_record(str(tmp_path), record)
    rename_record(str(tmp_path), record.key, {"objective": "dpo"})
    assert any_record(str(tmp_path), record.key) == replace(record, values={"objective": "dpo"})
    rename_record(str(tmp_path), "of nothing", {"objective": "dpo"})
    assert any_record(str(tmp_path), "of nothing") is None
