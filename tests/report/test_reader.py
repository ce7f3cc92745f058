"""Protects `redi_ray.open_run`: what notebooks read of a run, on disk and on S3, running, damaged and copied."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from live_run import write_live_run
from made_run import ACCURACY, write_run

import redi_ray
from redi_ray.errors import StorageError
from redi_ray.report.reader import NotInRun
from redi_ray.store.lock import run_lock
from redi_ray.store.manifests import current_manifest
from redi_ray.store.parquet import write_table
from redi_ray.store.storage import join, write_bytes


def test_a_finished_run(root: str):
    uri = f"{root}/demo"
    write_run(uri, {"arithmetic": 60})
    run = redi_ray.open_run(uri)
    assert run.models == list(ACCURACY)
    assert run.benchmarks == ["arithmetic"]
    score = run.scores("redi")["arithmetic"]
    assert score.ci95[0] <= score.pass_at_1 <= score.ci95[1]
    assert set(score.pass_at_k) == {"1", "2", "4", "8"}
    found = run.compare("base", "redi", "arithmetic")
    assert found.difference == pytest.approx(score.pass_at_1 - run.scores("base")["arithmetic"].pass_at_1)
    metrics = run.metrics("symmetric")
    assert len(metrics) == 100
    assert metrics["loss"][0][0] == 1
    assert math.isnan(metrics["loss"][-1][1])
    assert metrics.to_pandas().shape == (100, len(metrics.names))
    assert run.manifest("curated").dropped["no_correct_trace"] == 73
    assert any("stopped_by_guard" in note for note in run.notes)
    assert repr(run).startswith("<run demo: finished")


def test_tables_by_row_group(root: str):
    uri = f"{root}/demo"
    write_run(uri, {"arithmetic": 8})
    verified = current_manifest(uri, "verified")
    for part in range(2):
        rows = [{"problem_id": f"p-{part}-{number}", "completion": "x" * 40_000} for number in range(400)]
        write_table(join(verified.uri, "verified", f"part-{part}.parquet"), pa.Table.from_pylist(rows))
    table = redi_ray.open_run(uri).table("verified")
    assert (len(table), table.columns) == (800, ["problem_id", "completion"])
    groups = list(table.row_groups(columns=["problem_id"]))
    assert len(groups) > 2  # never a whole file at once
    assert pa.concat_tables(groups).equals(table.to_arrow(["problem_id"]))
    assert next(iter(table))["problem_id"] == "p-0-0"
    assert table.to_pandas(["problem_id"]).iloc[-1, 0] == "p-1-399"


def test_a_run_under_way(root: str):
    live = write_live_run(root)
    live.train(3)
    with run_lock(live.uri):
        run = redi_ray.open_run(live.uri)
        assert run.state == "running"
        (work,) = run.at_work
        assert (work.step, work.done, work.total, work.unit) == ("redi", 3, live.total, "steps")
        assert work.left == pytest.approx((live.total - 3) / 2)  # 500 tokens a step at 1,000 a second
        assert len(run.metrics("redi")) == 3
        assert run.steps["redi"].standing == "cut off"
        assert run.steps["sft"].standing == "finished"
        live.train(2)
        assert run.at_work[0].done == 5
    assert redi_ray.open_run(live.uri).state == "cut off"


def test_a_copied_and_damaged_run(tmp_path: Path):
    uri = str(tmp_path / "demo")
    write_run(uri, {"arithmetic": 8})
    copied = str(tmp_path / "elsewhere" / "copied")
    shutil.copytree(uri, copied)
    shutil.rmtree(uri)
    write_bytes(f"{copied}/eval/redi/manifest.json", b"{")
    run = redi_ray.open_run(copied)
    assert run.manifest("curated").uri.startswith(copied)
    assert len(run.metrics("sft")) == 100
    assert "arithmetic" not in run.scores("redi")
    assert any("cannot be read" in note for note in run.notes)


def test_what_is_not_there_is_told(tmp_path: Path):
    with pytest.raises(StorageError, match="no run here"):
        redi_ray.open_run(str(tmp_path))
    write_run(str(tmp_path / "demo"), {"arithmetic": 8})
    run = redi_ray.open_run(str(tmp_path / "demo"))
    with pytest.raises(NotInRun, match="base, sft"):
        run.metrics("nobody")
    with pytest.raises(NotInRun, match="no table rejects; there are pairs"):
        run.table("curated", "rejects")
    with pytest.raises(NotInRun, match="no rows"):
        run.table("redi")
    with pytest.raises(NotInRun, match="no step named nothing; there are problems"):
        run.table("nothing")
    with pytest.raises(NotInRun, match="no scores on gsm8k; there are benchmarks arithmetic"):
        run.compare("sft", "redi", "gsm8k")


def test_nothing_heavy_is_loaded_before_it_is_asked_for():
    """Every command imports the package first."""
    program = "import sys, redi_ray; assert not {'torch', 'ray', 'pyarrow', 'pydantic'} & set(sys.modules), 'heavy'"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
