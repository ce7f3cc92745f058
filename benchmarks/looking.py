"""Looking at rows: how long a page of a run of a million traces takes, and what the process that reads it holds.

    python benchmarks/looking.py [--quick] [--rows N] [--shard-rows N] [--s3] [--keep FOLDER]

A run is made first: verified traces of about 2,200 characters, each a number and one of 4,096 texts of random words, in
shards as the verification writes them, with a column of numbers beside them; one trace in 100,000 has a verdict that no other
has, and one of all holds a word that no other does. With `--s3` it lies on moto's server, a process of its own. Then a fresh
process looks at it, each question once with nothing known and once again. `seconds` are those of
`redi_ray.report.row_pages.page`, cold and warm, `processor` what of them it worked, on all its threads; `count` says how many
rows it knew of by then, with a + where it was not all, and `looked` the share of the files that it got through. The last line
is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from redi_ray.report.browse import graph_of_run
from redi_ray.report.filters import Range, TraceFilter
from redi_ray.report.row_pages import Page, find_row, page
from redi_ray.report.row_tables import rows_of
from redi_ray.schemas import SCORE, VERIFIED_TRACE
from redi_ray.store import parquet, storage
from redi_ray.store.manifests import Stage

TEXTS, WORDS, RARE, NEEDLE = 4096, 400, 100_000, "xylophone"
CONFIG = """name: run
generate: {kind: vllm}
steps:
  scored: {do: score, of: verified, scorer: {name: length}}
"""


def make(run: str, rows: int, shard_rows: int) -> None:
    """Write the run."""
    rng = np.random.default_rng(0)
    words = np.array([f"w{number}" for number in range(3000)])
    drawn = pa.array([" ".join(row) for row in words[rng.integers(0, len(words), (TEXTS, WORDS))]])
    storage.write_bytes(storage.join(run, "config.yaml"), CONFIG.encode())
    stage, column = Stage(run, "verified", {}, {}), Stage(run, "steps/scored/column", {}, {})
    for number, first in enumerate(range(0, rows, shard_rows)):
        count, name = min(shard_rows, rows - first), f"round-000/part-{number:05d}.parquet"
        ids = np.arange(first, first + count)
        begun = [f"Trace {one}{f' {NEEDLE}' if one == rows // 2 else ''}: " for one in ids]
        texts = pc.binary_join_element_wise(begun, drawn.take(pa.array(rng.integers(0, TEXTS, count))), "")
        verdicts = np.where(rng.random(count) < 0.4, "wrong", "correct")
        verdicts[ids % RARE == RARE - 1] = "timeout"
        tokens = rng.integers(100, 4000, count)
        cast = pa.StructArray.from_arrays([pa.array(["math_verify"] * count), pa.array(verdicts)], ["verifier", "vote"])
        votes = pa.ListArray.from_arrays(np.arange(count + 1, dtype=np.int32), cast)
        table = {
            "problem_id": [f"p{one // 8}" for one in ids], "problem": [f"What is {one} + 1?" for one in ids],
            "answer": [str(one + 1) for one in ids], "source": [("web", "book")[one // 8 % 2] for one in ids],
            "trace_id": [f"p{one // 8}#{one % 8}" for one in ids], "sample_index": ids % 8, "completion": texts,
            "turns": [None] * count, "finish_reason": ["stop"] * count, "num_tokens": tokens,
            "model": ["teacher"] * count, "sampling": [None] * count, "votes": [None] * count, "verdict": verdicts,
            "verdict_by": votes,
            "extracted_answer": [str(one) for one in ids],
        }  # fmt: skip
        arrays = [one if isinstance(one, pa.Array) else pa.array(one) for one in table.values()]
        made = pa.table(arrays, names=list(table)).select(VERIFIED_TRACE.names).cast(VERIFIED_TRACE)
        parquet.write_table(storage.join(stage.uri, "verified", name), made)
        scores = pa.table([made["trace_id"], pa.array(rng.normal(size=count))], schema=SCORE)
        parquet.write_table(storage.join(column.uri, "column", name), scores)
    for one in (stage, column):
        one.publish(counts={"in": rows, "out": rows})


QUESTIONS: dict[str, TraceFilter] = {
    "all": TraceFilter(),
    "verdict": TraceFilter(verdicts=["wrong"]),
    "verdict, 1 in 100,000": TraceFilter(verdicts=["timeout"]),
    "source and length": TraceFilter(sources=["book"], tokens=Range(3990, None)),
    "vote": TraceFilter(votes={"math_verify": "wrong"}),
    "score": TraceFilter(scores={"scored": Range(3.5, None)}),
    "text, common": TraceFilter(text="w17 w"),
    "text, one in all": TraceFilter(text=NEEDLE),
}


def looked_at(run: str) -> dict[str, Any]:
    """What this process sees."""
    graph, told = graph_of_run(run), dict[str, Any]()

    def timed(name: str, work: Callable[[], Page]) -> Page:
        started, processor = time.monotonic(), time.process_time()
        found = work()
        seconds, processor = time.monotonic() - started, time.process_time() - processor
        entry = {
            "seconds": round(seconds, 3),
            "processor": round(processor, 3),
            "rows": len(found.rows),
            "count": found.count,
            "whole": found.whole,
        }
        told.setdefault(name, []).append(entry | {"looked": round(found.looked, 3)})
        count = f"{found.count:,}{'' if found.whole else '+'}"
        print(f"{name:<24} {seconds:7.3f} s, processor {processor:.3f} s  {len(found.rows):>3} rows of {count}")
        return found

    for name, wanted in QUESTIONS.items():
        first = timed(name, lambda wanted=wanted: page(rows_of(run, graph, "verified"), wanted))  # type: ignore[misc]
        timed(name, lambda wanted=wanted: page(rows_of(run, graph, "verified"), wanted))  # type: ignore[misc]
        if first.following is not None:
            behind = first.following
            timed(f"{name}, next", lambda w=wanted, b=behind: page(rows_of(run, graph, "verified"), w, after=b))  # type: ignore[misc]
    total = sum(1 for _ in rows_of(run, graph, "verified").shards)
    started = time.monotonic()
    place = find_row(rows_of(run, graph, "verified"), first_of_last(run, graph))
    told["a row by its id"] = {"seconds": round(time.monotonic() - started, 3), "place": str(place)}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"shards": total, "questions": told, "peak_mib": round(peak)}


def first_of_last(run: str, graph: Any) -> str:
    """The id of a row in the last file."""
    shard = rows_of(run, graph, "verified").shards[-1]
    return str(next(iter(parquet.read_batches(shard.uri, ["trace_id"])))["trace_id"][0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="20,000 rows")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--shard-rows", type=int, default=2000)
    parser.add_argument("--s3", action="store_true")
    parser.add_argument("--keep", help="make the run here, or look at the one that is here already")
    parser.add_argument("--look", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.look:
        print(json.dumps(looked_at(arguments.look)))
        return
    rows = 20_000 if arguments.quick else arguments.rows
    with tempfile.TemporaryDirectory() as folder:
        server = None
        run = storage.join(arguments.keep or folder, "run")
        if arguments.s3:
            server, run = serve(), "s3://looking/run"
        try:
            if not storage.exists(storage.join(run, "verified/manifest.json")):
                make(run, rows, arguments.shard_rows)
            subprocess.run([sys.executable, __file__, "--look", run], check=True)
        finally:
            if server is not None:
                server.terminate()


def serve() -> subprocess.Popen[bytes]:
    """moto's server, with a bucket; this process and its children ask it."""
    import socket

    import boto3

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = str(Path(sys.executable).with_name("moto_server"))
    server = subprocess.Popen([script, "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    for _ in range(100):
        try:
            boto3.client("s3").create_bucket(Bucket="looking")
            return server
        except Exception:  # it is starting
            time.sleep(0.2)
    raise SystemExit("moto's server does not start")


if __name__ == "__main__":
    main()
