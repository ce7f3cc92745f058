"""SIGKILL of the driver in the middle of curation, and once more: the same rows, and nothing done twice."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from curation_runs import plan, read_out, run_here, solved
from processes import ROOT, kill_when, start
from recovery import recovering

from redi_ray.data.curate.curate import ray_workers, run_passes

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]
SHARDS = [
    solved([f"How many of the {n * 100 + k} eggs are left in basket {k}?" for k in range(30)], f"{n}-")
    for n in range(8)
]


def test_a_killed_driver(tmp_path: Path, bpe_tokenizer: str):
    """Eight groups of ten parts each; it is killed when a few parts are written."""
    environment = {"PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(ROOT / "tests" / "data"), str(ROOT)])}
    process = start("python", __file__, str(tmp_path / "torn"), bpe_tokenizer, environment=environment)
    kill_when(process, lambda: len(list(tmp_path.glob("torn/out/work/written/*"))) > 5)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "torn" / "out" / "work").rglob("*.json")}
    job = plan(tmp_path / "torn", bpe_tokenizer, SHARDS, duplicates={})
    with recovering("the kill of a curation"), ray_workers(job, 2) as run:
        counts = run_passes(job, run, 240)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(before) < len(list((tmp_path / "torn" / "out" / "work").rglob("*.json")))
    assert counts == run_here(plan(tmp_path / "calm", bpe_tokenizer, SHARDS, duplicates={}), 240)
    for table, key in (("examples", "example_id"), ("pairs", "pair_id")):
        torn, calm = (sorted(read_out(tmp_path / n)[table], key=lambda row: row[key]) for n in ("torn", "calm"))
        assert torn == calm


if __name__ == "__main__":
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    torn = plan(Path(sys.argv[1]), sys.argv[2], SHARDS, duplicates={})
    with ray_workers(torn, 2) as run_tasks:
        run_passes(torn, run_tasks, 240)
