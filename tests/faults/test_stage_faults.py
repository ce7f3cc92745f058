"""A stage on Ray Data whose shards lie behind a faulty S3: its workers get over what passes, and say what does not."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
from proxy import FaultProxy
from trace_shards import write_trace_shards

from redi_ray.store import parquet, storage

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]

VERIFY = """
import json, sys, tempfile
from redi_ray.config.answers import VerifySettings
from redi_ray.config.resources import RaySettings
from redi_ray.data.verify.traces import verify_traces
from redi_ray.cluster.exits import clear_errors
from redi_ray.cluster.runtime import ray_connection
from redi_ray.store.storage import list_files
with clear_errors(), ray_connection(RaySettings(num_cpus=4, object_store_gib=0.2)):
    counts = verify_traces(list_files(sys.argv[1], ".parquet"), sys.argv[2], VerifySettings(), concurrency=2)
    print(json.dumps(counts.verdicts))
"""


def verify(inputs: str, out: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, whose Ray starts with the proxy in its environment."""
    return subprocess.run(
        [sys.executable, "-c", VERIFY, inputs, out], capture_output=True, text=True, check=False, timeout=300
    )


@pytest.fixture
def inputs(bucket: str, proxy: FaultProxy) -> str:
    """Six shards of ten traces, half of them right."""
    write_trace_shards(f"{bucket}/stage/in", shards=6, rows=10)
    return f"{bucket}/stage/in"


def test_shards_are_read_and_written_through_faults(inputs: str, bucket: str, proxy: FaultProxy):
    started = time.monotonic()
    calm = verify(inputs, f"{bucket}/stage/calm")
    assert calm.returncode == 0, calm.stderr[-3000:]
    undisturbed = time.monotonic() - started
    for shard, kind in enumerate(("slow_down", "internal", "reset", "lost_answer")):
        proxy.inject(kind, times=2, method="GET", key=f"in/part-{shard}")  # type: ignore[arg-type]
        proxy.inject(kind, times=2, method="PUT", key=f"torn/part-{shard}")  # type: ignore[arg-type]
    proxy.inject("truncated", times=2, method="GET", key="in/part-4")
    started = time.monotonic()
    torn = verify(inputs, f"{bucket}/stage/torn")
    print(f"{undisturbed:.1f} s undisturbed, {time.monotonic() - started:.1f} s through 18 faults")
    assert torn.returncode == 0, torn.stderr[-3000:]
    assert json.loads(torn.stdout)["correct"] == 30
    assert all(fault.met == 2 for fault in proxy.faults)
    tables = [
        [table for table in parquet.read_tables(storage.list_files(f"{bucket}/stage/{out}", ".parquet"))]
        for out in ("calm", "torn")
    ]
    assert len(tables[0]) == 6
    assert tables[0] == tables[1]


def test_a_shard_that_is_refused_is_named_and_the_others_are_done(inputs: str, bucket: str, proxy: FaultProxy):
    proxy.inject("denied", times=10**6, key="in/part-2")
    done = verify(inputs, f"{bucket}/stage/denied")
    assert done.returncode == 2, done.stderr[-3000:]
    assert f"{inputs}/part-2.parquet cannot be read: access denied" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(storage.list_files(f"{bucket}/stage/denied", ".parquet")) == 5
    proxy.clear()
    assert verify(inputs, f"{bucket}/stage/denied").returncode == 0
    assert len(storage.list_files(f"{bucket}/stage/denied", ".parquet")) == 6
