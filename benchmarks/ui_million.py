"""Pages of a run of a million traces: how long each takes, and what the process that serves them holds.

    python benchmarks/ui_million.py [--quick] [--rows N] [--shard-rows N] [--keep FOLDER]

A run is made first under the keys that its config gives: problems, traces and verdicts in shards as the stages write them, pairs,
five trainings of 5,000 steps with their metrics, of which the last is under way, and five evaluations of 500 problems. Then
`redi-ray ui` is started in a process of its own, on disk, and again with the run on moto's S3 server (in a third process), and
every page is asked once, when nothing of it is known yet, and then ten times more. `first` and `worst` are seconds, of the first
question and of the slowest of those behind it; `peak_mib` is the most memory that the pages' process held, `beside_mib` that of
the process beside it, which makes keys and plans. That one has some seconds to load before the first question, unless `--cold`.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pyarrow as pa
from moto_bucket import serve_s3

from redi_ray.config.load import dump_config, load_config
from redi_ray.pipeline.kinds import KINDS
from redi_ray.pipeline.standard import graph_of
from redi_ray.pipeline.states import run_of
from redi_ray.schemas import PAIR, VERIFIED_TRACE
from redi_ray.stages.run import Run
from redi_ray.store import parquet, storage
from redi_ray.store.manifests import Manifest, Stage

STEPS, PROBLEMS, SAMPLES, TEXTS = 5000, 500, 4, 512
AGAIN = 10
LOADING = 10.0
"""Seconds that the process beside has, before the first question, to load what it needs."""
HERE = Path(__file__).resolve().parent.parent


def make(root: str, name: str, rows: int, shard_rows: int) -> None:
    """Write a run. The last training has begun, and is not finished."""
    config = load_config(str(HERE / "configs/demo.yaml"), [f"name={name}", f"storage.root={root}"])
    run, graph = Run.of(config), graph_of(config)
    storage.write_bytes(storage.join(run.uri, "config.yaml"), dump_config(config).encode())
    made: dict[str, Manifest | Stage] = {}
    trained = [step.name for step in graph if step.kind in ("base", "train")]
    for step in graph:
        inputs = {role: made[of] for role, of in step.inputs.items() if of in made}
        if len(inputs) < len(step.inputs):
            continue
        place = KINDS[step.kind].place(run_of(run, step), step, inputs)
        assert isinstance(place, Stage)
        made[step.name] = place
        if step.name in trained:
            write_metrics(place.uri, seed=trained.index(step.name))
        if step.name == trained[-1]:
            continue
        made[step.name] = publish(step.name, place, rows, shard_rows)


def publish(name: str, place: Stage, rows: int, shard_rows: int) -> Manifest:
    """A finished step."""
    if place.name in ("traces", "verified"):
        write_traces(storage.join(place.uri, place.name), rows, shard_rows)
        return place.publish(counts={"in": rows, "out": rows}, facts={"verdicts": {"correct": rows // 2}}, seconds=100)
    if place.name.startswith("checkpoints/"):
        return place.publish(facts={"steps": STEPS, "total_steps": STEPS, "status": "done"}, seconds=900)
    if place.name.startswith("eval/"):
        write_scores(place.uri, name)
        return place.publish(seconds=60)
    count = rows // SAMPLES
    if place.name == "curated":
        write_pairs(storage.join(place.uri, "pairs"), count, shard_rows)
    return place.publish(counts={"in": count, "out": count, "positives": count, "pairs": count}, seconds=10)


def write_traces(table: str, rows: int, shard_rows: int) -> None:
    rng = np.random.default_rng(0)
    words = np.array([f"w{number}" for number in range(3000)])
    texts = pa.array([" ".join(row) for row in words[rng.integers(0, len(words), (TEXTS, 60))]])
    for number, first in enumerate(range(0, rows, shard_rows)):
        ids = np.arange(first, min(rows, first + shard_rows))
        told: dict[str, Any] = {
            "problem_id": [f"p{one // SAMPLES}" for one in ids], "problem": [f"What is {one} + 1?" for one in ids],
            "answer": [str(one + 1) for one in ids], "source": ["world"] * len(ids),
            "trace_id": [f"p{one // SAMPLES}#{one % SAMPLES}" for one in ids], "sample_index": ids % SAMPLES,
            "completion": texts.take(pa.array(rng.integers(0, TEXTS, len(ids)))), "finish_reason": ["stop"] * len(ids),
            "num_tokens": rng.integers(100, 4000, len(ids)), "model": ["teacher"] * len(ids),
            "verdict": np.where(rng.random(len(ids)) < 0.5, "wrong", "correct"),
            "extracted_answer": [str(one) for one in ids],
        }  # fmt: skip
        cast = pa.StructArray.from_arrays(
            [pa.array(["math_verify"] * len(ids)), pa.array(told["verdict"])], ["verifier", "vote"]
        )
        told["verdict_by"] = pa.ListArray.from_arrays(np.arange(len(ids) + 1, dtype=np.int32), cast)
        columns = [told.get(field.name, pa.nulls(len(ids), field.type)) for field in VERIFIED_TRACE]
        arrays = [column if isinstance(column, pa.Array) else pa.array(column) for column in columns]
        made = pa.table(arrays, names=VERIFIED_TRACE.names).cast(VERIFIED_TRACE)
        parquet.write_table(storage.join(table, f"round-000/part-{number:05d}.parquet"), made)


def write_pairs(table: str, pairs: int, shard_rows: int) -> None:
    text = " ".join(f"w{number}" for number in range(60))
    for number, first in enumerate(range(0, pairs, shard_rows)):
        rows = [
            {
                "pair_id": f"p{one}#0/p{one}#1", "problem_id": f"p{one}",
                "prompt": [{"role": "user", "content": f"What is {one} + 1?"}],
                "chosen": [{"role": "assistant", "content": f"{text} {one + 1}"}],
                "rejected": [{"role": "assistant", "content": f"{text} {one}"}],
                "chosen_finished": True, "rejected_finished": True,
            }
            for one in range(first, min(pairs, first + shard_rows))
        ]  # fmt: skip
        made = pa.Table.from_pylist(rows, schema=PAIR)
        parquet.write_table(storage.join(table, f"part-{number:05d}.parquet"), made)


def write_metrics(training: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    lines = []
    for step, noise in enumerate(rng.normal(size=STEPS)):
        done = step / STEPS
        row = {"step": step, "loss": 1 - done + 0.1 * noise, "chosen_logp": -0.2 - 0.1 * done, "margin": done}
        row |= {"rejected_logp": -0.4 - done, "grad_norm": 1 + abs(noise), "update_norm": 0.1, "learning_rate": 1e-5}
        row |= {"tokens_per_second": 9000 + 100 * noise, "total_tokens": 65536.0, "pack_fill": 0.97, "collapse": 0.0}
        lines.append(json.dumps(row | ({"dev_accuracy": 0.5 + 0.4 * done} if step % 100 == 0 else {})))
    storage.write_bytes(storage.join(training, "metrics.jsonl"), ("\n".join(lines) + "\n").encode())


def write_scores(place: str, name: str) -> None:
    from dataclasses import asdict

    from redi_ray.eval.metrics import summarize

    rng = np.random.default_rng(len(name))
    right, tokens = rng.random((PROBLEMS, 8)) < 0.6, rng.integers(100, 900, (PROBLEMS, 8))
    found = summarize(right, tokens, tokens > 890, (1, 4, 8), problem_ids=[f"t{n}" for n in range(PROBLEMS)])
    storage.write_json(storage.join(place, "report.json"), {"benchmarks": [asdict(found) | {"name": "test"}]})


# ------------------------------------------------------------------------------------------------------ what is asked


def looked_at(root: str, cold: bool) -> dict[str, Any]:
    """Seconds of every page, and memory of the process that serves them."""
    command = [sys.executable, "-m", "redi_ray.cli", "ui", root, "--port", "0"]
    started = time.monotonic()
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=HERE)
    assert server.stdout is not None
    try:
        address = re.search(r"http://[^ ]+", server.stdout.readline())
        assert address is not None
        said = round(time.monotonic() - started, 2)
        with httpx.Client(base_url=address[0], timeout=300) as client:
            home = client.get("/")
            ready = round(time.monotonic() - started, 2)
            run, other = sorted(re.findall(r'name="run" value="([^"]+)"', home.text))
            if not cold:
                time.sleep(LOADING)
            pages = {
                name: measure(client, path)
                for name, path in {
                    "runs": "/", "runs, again": "/runs.json", "run": f"/run/{run}", "run, again": f"/run/{run}/live.json",
                    "curves": f"/curves.json?run={run}&smooth=0.9", "compare": f"/compare?run={run}&run={other}",
                    "spent": f"/run/{run}/spent", "rows": f"/run/{run}/rows?step=verified",
                    "rows, wrong": f"/run/{run}/rows?step=verified&verdict=wrong",
                    "pairs": f"/run/{run}/rows?step=curated&table=pairs",
                }.items()
            }  # fmt: skip
            for name, step in {"row": "verified", "pair": "curated"}.items():
                listed = client.get(f"/run/{run}/rows?step={step}").text
                link = re.findall(r'href="(row\?[^"]+)"', listed)[-1].replace("&amp;", "&")
                pages[name] = measure(client, f"/run/{run}/{link}")
        beside = [child.memory_info().rss >> 20 for child in psutil.Process(server.pid).children()]
        peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{server.pid}/status").read_text())
        return {"pages": pages, "peak_mib": int(peak[1]) >> 10 if peak else None, "beside_mib": max(beside, default=0),
                "address_after": said, "answers_after": ready}  # fmt: skip
    finally:
        server.terminate()
        server.wait(30)


def measure(client: httpx.Client, path: str) -> dict[str, Any]:
    """Of a page that is not there (another part of the pages) only its status."""
    times = []
    for _ in range(1 + AGAIN):
        started = time.monotonic()
        answer = client.get(path)
        times.append(round(time.monotonic() - started, 3))
        if answer.status_code not in (200, 202):
            return {"status": answer.status_code}
        time.sleep(0.3)
    print(f"{path[:60]:<62} first {times[0]:6.3f} s, worst of {AGAIN} more {max(times[1:]):6.3f} s", flush=True)
    return {"first": times[0], "worst": max(times[1:]), "bytes": len(answer.content)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="20,000 rows")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--shard-rows", type=int, default=1000)
    parser.add_argument("--keep", help="make the run here, or look at the one that is here already")
    parser.add_argument("--cold", action="store_true", help="ask at once")
    parser.add_argument("--only", choices=("disk", "s3"))
    arguments = parser.parse_args()
    rows = 20_000 if arguments.quick else arguments.rows
    found: dict[str, Any] = {"rows": rows}
    folder = arguments.keep or tempfile.mkdtemp()
    try:
        if not storage.exists(storage.join(folder, "million", "config.yaml")):
            make(folder, "million", rows, arguments.shard_rows)
            make(folder, "other", 1000, arguments.shard_rows)
        if arguments.only != "s3":
            found["disk"] = looked_at(folder, arguments.cold)
        if arguments.only != "disk":
            server = serve_s3("million")
            try:
                storage.upload(folder, "s3://million/runs")
                found["s3"] = looked_at("s3://million/runs", arguments.cold)
            finally:
                server.terminate()
    finally:
        if not arguments.keep:
            shutil.rmtree(folder)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
