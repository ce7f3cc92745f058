"""Looking at rows: how long a page of a run of a million traces takes, and what the process that reads it holds.

    python benchmarks/looking.py [--quick] [--rows N] [--shard-rows N] [--s3] [--keep FOLDER]

A run is made first: verified traces of about 2,200 characters, each a number and one of 4,096 texts of random words, in
shards as the verification writes them, with a column of numbers beside them; one trace in 100,000 has a verdict that no other
has, and one of all holds a word that no other does. With `--s3` it lies on moto's server, a process of its own. Then the pages
of `redi-ray ui` are asked, of a process of their own: each question until nothing more comes, as a browser does, and the page
behind. `first` are the seconds from the first question to its answer, `worst` those of the slowest of all answers, `whole` those
until the page was full or all was looked at, `processor` what the server worked for them on all its threads, `said` what the last
page says of how many rows there are and how far it has looked, `peak_mib` the most memory that the server held. The last line is
JSON.
"""

from __future__ import annotations

import argparse
import json
import re
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
import pyarrow.compute as pc
import uvicorn
from moto_bucket import free_port, serve_s3

from redi_ray.schemas import SCORE, VERIFIED_TRACE
from redi_ray.store import parquet, storage
from redi_ray.store.manifests import Stage
from redi_ray.ui.app import create_app

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
        one.publish(counts={"in": rows, "out": rows})  # verdicts are not said: they are counted by looking


QUESTIONS = {
    "all": "",
    "verdict": "&verdict=wrong",
    "verdict, 1 in 100,000": "&verdict=timeout",
    "verdict and vote": "&verdict=wrong&voter=math_verify&vote=wrong",
    "source and length": "&source=book&tokens_from=3990",
    "score": "&score=scored&score_from=3.5",
    "text, common": "&text=w17%20w",
    "text, one in all": f"&text={NEEDLE}",
}
"""What is asked of the list of rows."""


def looked_at(run: str, rows: int) -> dict[str, Any]:
    """What pages say and cost, of a server that is started for them."""
    port = free_port()
    server = subprocess.Popen([sys.executable, __file__, "--serve", run, "--port", str(port)])
    process, told = psutil.Process(server.pid), dict[str, Any]()

    def asked(name: str, address: str) -> str:
        seconds, processor = [], sum(process.cpu_times()[:2])
        while True:
            started = time.monotonic()
            answer = httpx.get(f"http://127.0.0.1:{port}{address}", timeout=120)
            seconds.append(round(time.monotonic() - started, 3))
            assert answer.status_code in (200, 202), answer.text
            if answer.status_code == 200 and "data-more" not in answer.text:
                break
        count = re.search(r'<p class="count"[^>]*>(.*?)</p>', answer.text)
        words = "" if count is None else re.sub("<[^>]*>", "", count[1])
        told[name] = {
            "first": seconds[0], "worst": max(seconds), "whole": round(sum(seconds), 3), "answers": len(seconds),
            "processor": round(sum(process.cpu_times()[:2]) - processor, 2), "said": words,
        }  # fmt: skip
        print(f"{name:<28} {', '.join(f'{key} {value}' for key, value in told[name].items())}", flush=True)
        return answer.text

    try:
        home = started_page(port)
        (path,) = set(re.findall(r'href="(/run/[^"/]+)"', home))
        asked("the steps", f"{path}/rows")
        for name, question in QUESTIONS.items():
            page = asked(name, f"{path}/rows?step=verified{question}")
            asked(f"{name}, again", f"{path}/rows?step=verified{question}")
            if following := re.search(r'rel="next" href="(rows[?][^"]*)"', page):
                asked(f"{name}, next", f"{path}/{following[1].replace('&amp;', '&')}")
        trace = f"p{(rows - 1) // 8}%23{(rows - 1) % 8}"
        page = asked("a row by its id", f"{path}/row?step=verified&id={trace}")
        link = re.findall('row[?][^"]*at=[^"]*', page)[-1].replace("&amp;", "&")
        asked("the row by its link", f"{path}/{link}")
        peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{server.pid}/status").read_text())
    finally:
        server.terminate()
    return {"rows": rows, "pages": told, "peak_mib": int(peak[1]) // 1024 if peak else None}


def started_page(port: int) -> str:
    """The first page, once the server answers."""
    for _ in range(600):
        try:
            return httpx.get(f"http://127.0.0.1:{port}/", timeout=60).text
        except httpx.TransportError:
            time.sleep(0.2)
    raise SystemExit("the server does not start")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="20,000 rows")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--shard-rows", type=int, default=2000)
    parser.add_argument("--s3", action="store_true")
    parser.add_argument("--keep", help="make the run here, or look at the one that is here already")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        uvicorn.run(create_app([arguments.serve]), port=arguments.port, log_level="warning")
        return
    rows = 20_000 if arguments.quick else arguments.rows
    with tempfile.TemporaryDirectory() as folder:
        server = None
        run = storage.join(arguments.keep or folder, "run")
        if arguments.s3:
            server, run = serve_s3("looking"), "s3://looking/run"
        try:
            if not storage.exists(storage.join(run, "verified/manifest.json")):
                make(run, rows, arguments.shard_rows)
            print(json.dumps(looked_at(run, rows)))
        finally:
            if server is not None:
                server.terminate()


if __name__ == "__main__":
    main()
