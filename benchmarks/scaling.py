"""Verification and sampling on one and on two nodes: the same rows, and what the scheduling around the work costs.

Nodes are raylets of their own on this machine (`ray.cluster_utils`), each with logical CPUs for one actor of the kind, a
head besides for the driver and the small tasks. They share this machine's cores, so wall-clock time says little of a
cluster's; what carries over is that rows are equal and how many seconds Ray, Parquet and we add to each 1,000 rows.

    verify     fractions, which the fast path decides, one actor a node. Overhead: the actors' time minus what they spent on
               verdicts, by the difference of two sizes, so that start-up is in neither
    sample     vLLM (a small random Qwen2), one replica a node: every trace equal on one and on two nodes
    schedule   the same stage with a sampler that answers at once, so that all its time is overhead; two sizes again

    python benchmarks/scaling.py [--quick]

Last line: a JSON object.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import ray.data
from generate_overhead import make_model
from ray.cluster_utils import Cluster

from redi_ray.cluster.runtime import WORKER_ENVIRONMENT, quiet_libraries
from redi_ray.config.answers import VerifySettings
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.resources import EngineSettings
from redi_ray.data.sample.collect import collect
from redi_ray.data.sample.samples import COMPLETION, TASK_CPUS, Requests, Sampler, Sampling, explode
from redi_ray.data.sample.sampling import vllm_sampler
from redi_ray.data.sample.survey import trace_shards
from redi_ray.data.verify.traces import VerifyCounts, verify_traces
from redi_ray.schemas import PROBLEM, TRACE
from redi_ray.store import parquet, storage

WORKERS = {"pool": "workers"}
SHARD_ROWS = 500


@contextmanager
def nodes(count: int) -> Iterator[None]:
    """Connected to a Ray of a head and `count` workers' nodes."""
    with tempfile.TemporaryDirectory(prefix="rs", dir="/tmp", ignore_cleanup_errors=True) as folder:
        cluster, store = Cluster(), 200 << 20
        cluster.add_node(num_cpus=2, object_store_memory=store, temp_dir=folder, include_dashboard=False)
        for _ in range(count):
            cluster.add_node(num_cpus=1, object_store_memory=store, labels=WORKERS)
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        quiet_libraries()
        try:
            yield
        finally:
            ray.shutdown()
            cluster.shutdown()


def write_traces(folder: str, rows: int) -> list[str]:
    """Traces in shards; every answer is a fraction of its own, one in two is right."""
    uris = []
    for start in range(0, rows, SHARD_ROWS):
        numbers = range(start, min(start + SHARD_ROWS, rows))
        columns: dict[str, list[Any]] = {
            "trace_id": [f"t{n}" for n in numbers],
            "problem_id": [f"p{n}" for n in numbers],
            "problem": ["?" for _ in numbers],
            "answer": [f"{n + 1}/7" for n in numbers],
            "completion": [f"\\boxed{{\\frac{{{2 * n + 2}}}{{{14 + n % 2}}}}}" for n in numbers],
            "sample_index": [0 for _ in numbers],
            "model": ["m" for _ in numbers],
            "finish_reason": ["stop" for _ in numbers],
            "num_tokens": [9 for _ in numbers],
            "sampling": ["{}" for _ in numbers],
        }
        missing = [None] * len(numbers)
        table = pa.table({name: columns.get(name, missing) for name in TRACE.names}).cast(TRACE)
        uris.append(storage.join(folder, f"part-{start:07d}.parquet"))
        parquet.write_table(uris[-1], table)
    return uris


def verify(folder: Path, rows: int, actors: int) -> VerifyCounts:
    uris = write_traces(str(folder / f"in-{rows}"), rows)
    out = str(folder / f"verified-{rows}-{actors}")
    return verify_traces(uris, out, VerifySettings(), concurrency=actors, label_selector=WORKERS)


def answer_at_once(requests: pa.Table) -> pa.Table:
    """REQUEST rows -> COMPLETION rows."""
    rows = [
        row | {"completion": "\\boxed{1}", "finish_reason": "stop", "num_tokens": 3} for row in requests.to_pylist()
    ]
    return pa.Table.from_pylist(rows, schema=COMPLETION)


def instant(requests: ray.data.Dataset) -> ray.data.Dataset:
    return requests.map_batches(answer_at_once, batch_size=64, batch_format="pyarrow", num_cpus=TASK_CPUS)


def sample(out: Path, sampler: Sampler, problems: int) -> float:
    """Seconds to four samples a problem, as shards."""
    rows = [{"problem_id": f"p{n}", "problem": f"{n} + 1", "answer": "1", "source": "made"} for n in range(problems)]
    requests = Requests.of_table(explode(pa.Table.from_pylist(rows, schema=PROBLEM), range(4)))
    started = time.monotonic()
    stats = collect(requests, sampler, model="m", sampling=SAMPLING, out_uri=str(out), shard_rows=256)
    assert stats.traces == 4 * problems, stats
    return time.monotonic() - started


SAMPLING = Sampling(1.0, 1.0, 96, 0)


def engines(model: str, replicas: int) -> AbstractContextManager[Sampler]:
    settings = EngineSettings(
        device="cpu", dtype="float32", max_model_len=256, concurrency=replicas, label_selector=WORKERS
    )
    return vllm_sampler(model, settings, SAMPLING, PromptSettings())


def rows_of(folder: Path, columns: list[str]) -> list[dict[str, Any]]:
    tables = parquet.read_tables(trace_shards(str(folder)), columns)
    return sorted((row for table in tables for row in table.to_pylist()), key=lambda row: row["trace_id"])


def measure(count: int, model: str, folder: Path, sizes: tuple[int, int], problems: int) -> dict[str, Any]:
    """Everything on a Ray of `count` nodes for work."""
    with nodes(count):
        small, large = (verify(folder, rows, count) for rows in sizes)
        actors_seconds = count * (large.seconds - small.seconds) - (large.verify_seconds - small.verify_seconds)
        instant_seconds = [sample(folder / f"instant-{rows}-{count}", instant, rows // 4) for rows in sizes]
        with engines(model, count) as sampler:
            sample_seconds = sample(folder / f"sampled-{count}", sampler, problems)
    thousands = (sizes[1] - sizes[0]) / 1000
    return {
        "nodes": count,
        "verify_seconds": round(large.seconds, 2),
        "verify_overhead_s_per_1000_rows": round(actors_seconds / thousands, 3),
        "schedule_s_per_1000_rows": round((instant_seconds[1] - instant_seconds[0]) / thousands, 3),
        "sample_seconds_with_start": round(sample_seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rows")
    quick = parser.parse_args().quick
    os.environ.update(WORKER_ENVIRONMENT)
    sizes, problems = ((1000, 5000), 16) if quick else ((4000, 40_000), 128)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = make_model(folder / "model")
        arms = [measure(count, model, folder, sizes, problems) for count in (1, 2)]
        for arm in arms:
            print(arm)
        verdicts = [rows_of(folder / f"verified-{sizes[1]}-{n}", ["trace_id", "verdict"]) for n in (1, 2)]
        traces = [rows_of(folder / f"sampled-{n}", ["trace_id", "completion"]) for n in (1, 2)]
    result = {
        "verify_rows": sizes[1],
        "verdicts_equal": verdicts[0] == verdicts[1] and len(verdicts[0]) == sizes[1],
        "sampled_rows": 4 * problems,
        "traces_equal": traces[0] == traces[1] and len(traces[0]) == 4 * problems,
        "arms": arms,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
