"""The data part of the recipe `am` on a million synthetic rows of four sources: does every row add up, does the driver's memory
stay flat, and is the output the same where a run was killed?

    python benchmarks/am_million.py [--quick] [--rows N] [--out FOLDER]

Rows of two sources with references, one with tests and one with neither, each with one trace and columns of its own, in the
paper's shares; two of a hundred problems repeat an earlier one. They are read, mixed, verified, graded by a column, and curated
(duplicates, near duplicates, difficulty, repetition). Three runs, each a process of its own: a tenth of the rows (not with
--quick); all of them; and all of them again, killed once half of the shards of traces are verified, and gone on with. What must
hold: counts by source and kind of verification add up in every run (the report finds nothing odd), and the third run's rows are
those of the second. What is compared is the peak memory of the drivers (VmHWM). The last line is JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parents[1]
SHARES = {"school": 0.24, "contest": 0.149, "programs": 0.219, "advice": 0.392}
TABLES = (
    ("problems", "problems"),
    ("steps/graded/verified", "verified"),
    ("curated", "examples"),
    ("curated", "dropped"),
)
WORDS = [
    "river",
    "market",
    "garden",
    "tower",
    "harbour",
    "engine",
    "window",
    "letter",
    "forest",
    "bridge",
    "ladder",
    "mirror",
    "basket",
    "island",
    "kettle",
]
FILE_ROWS = 50_000

# ------------------------------------------------------------------------------------------------------ what goes in


def text(source: str, number: int) -> str:
    """A problem like no other, or an earlier one's copy."""
    chance = random.Random(f"{source}/{number}")
    if number > 100 and chance.random() < 0.02:
        return text(source, number - 97).upper()
    one, two = chance.sample(WORDS, 2)
    return f"In the {one} of {source} {number} lie {number % 89 + 2} things, and {number % 53 + 3} more in the {two}."


def row(source: str, number: int) -> dict[str, Any]:
    """A row with the columns of its source."""
    chance = random.Random(f"{number}/{source}")
    right, thought = chance.random() < 0.6, "<think>\n" + " ".join(chance.choices(WORDS, k=40)) + "\n</think>\n"
    thought = "<think>\n" + "once more " * 400 + "\n</think>\n" if chance.random() < 0.02 else thought
    if source == "programs":
        k = number % 40 + 1
        checks = {"inputs": [f"{k}\n"], "outputs": [f"{2 * k}\n"]}
        line = "print(2 * int(input()))" if right else "print(2 + 2 * int(input()))"
        return {"task": text(source, number), "checks": json.dumps(checks), "code": f"{thought}```python\n{line}\n```"}
    if source == "advice":
        return {
            "ask": text(source, number),
            "reply": thought + ("It helps, for many reasons. " * 8 if right else "No."),
        }
    gold = number % 89 + number % 53 + 5
    said = f"{thought}The answer is \\boxed{{{gold if right else gold + 1}}}."
    return {"question": text(source, number), "gold": str(gold), "solution": said}


def write(folder: Path, rows: int) -> None:
    """Files of all sources, unless they are there."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for source, share in SHARES.items():
        total = round(rows * share)
        for start in range(0, total, FILE_ROWS):
            file = folder / source / f"{start:08d}.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            made = [row(source, number) for number in range(start, min(total, start + FILE_ROWS))]
            pq.write_table(pa.Table.from_pylist(made), file, row_group_size=5000)


def config(data: Path, runs: Path, name: str, rows: int) -> dict[str, Any]:
    columns = {
        "school": {"problem": "question", "answer": "gold", "completion": "solution"},
        "contest": {"problem": "question", "answer": "gold", "completion": "solution"},
        "programs": {"problem": "task", "tests": "checks", "completion": "code"},
        "advice": {"problem": "ask", "completion": "reply"},
    }
    kinds = {"school": "reference", "contest": "reference", "programs": "tests", "advice": "neither"}
    sources = {
        source: {"do": "problems", "verified_by": kinds[source], "licence": "cc0-1.0",
                 "source": {"kind": "files", "paths": [str(data / source)], "columns": {"problem_id": None, **columns[source]}}}
        for source in SHARES
    }  # fmt: skip
    return {
        "name": name,
        "storage": {"root": str(runs)},
        "problems": {"source": {"kind": "mix", "of": list(SHARES), "weights": SHARES, "size": round(rows * 0.9),
                                "caps": {"contest": round(rows * 0.12)}}},
        "generate": {"kind": "import"},
        "verify": {"processes": 2, "tests": {"cpu_seconds": 2}},
        "steps": {**sources,
                  "length": {"do": "score", "of": "verified", "scorer": {"name": "length"}},
                  "graded": {"do": "grade", "of": "verified", "by": "length", "right": 400, "wrong": 350}},
        "curate": {"of": "graded", "duplicates": {}, "difficulty": {}, "chosen": {"repetition": {}}},
        "model": {"init": {"kind": "scratch", "vocab_size": 600}},
        "resources": {"ray": {"num_cpus": 4}, "verify_workers": 1, "curate_workers": 2, "concurrent_steps": 2},
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- a run


def run(file: Path, log: Path, kill_at: int = 0, verified: Path | None = None) -> tuple[float, float]:
    """(seconds, peak MiB of the driver) of a run up to curation; kill_at: end it once so many verified shards are there."""
    command = [sys.executable, "-m", "redi_ray.cli", "run", str(file), "--until", "curated"]
    began, peak = time.monotonic(), 0.0
    with log.open("a") as out:
        process = subprocess.Popen(command, cwd=HERE, stdout=out, stderr=out, start_new_session=True)
        while process.poll() is None:
            peak = max(peak, peak_of(process.pid))
            if kill_at and verified is not None and sum(1 for _ in verified.rglob("part-*.parquet")) >= kill_at:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                time.sleep(5)  # Ray's reaper ends what the driver has left behind
                return time.monotonic() - began, peak
            time.sleep(0.1)
    assert not kill_at, f"it ended before it could be killed: {log}"
    assert process.returncode == 0, f"exit {process.returncode}: {log}\n{log.read_text()[-3000:]}"
    return time.monotonic() - began, peak


def peak_of(pid: int) -> float:
    try:
        told = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = [line for line in told.splitlines() if line.startswith("VmHWM")]
    return int(found[0].split()[1]) / 1024 if found else 0.0


def digest_of(run_uri: Path) -> dict[str, str]:
    """Table -> a hash of its rows in any order."""
    from redi_ray.store import parquet
    from redi_ray.store.manifests import current_manifest

    found = {}
    for stage, table in TABLES:
        manifest, total, rows = current_manifest(str(run_uri), stage), 0, 0
        for file in manifest.files(table):
            for batch in parquet.read_batches(file):
                for one in batch.to_pylist():
                    if one.get("tests"):
                        one["tests"].pop("seconds")  # processor time, which is never the same
                    digest = hashlib.blake2b(repr(one).encode(), digest_size=16).digest()
                    total, rows = (total + int.from_bytes(digest)) % 2**128, rows + 1
        found[f"{stage}/{table}"] = f"{rows}:{total:032x}"
    return found


def odd_of(run_uri: Path) -> list[str]:
    """What does not add up by source, as the report finds it."""
    from redi_ray.report.runs import read_run
    from redi_ray.report.sources import mixtures

    (mixture,) = mixtures(read_run(str(run_uri), metrics=False))
    assert len(mixture["sources"]) == len(SHARES)
    assert sum(kind["curated"]["curated"]["problems"] for kind in mixture["kinds"].values()) == mixture["size"]
    return list(mixture["odd"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="2,000 rows, to see that it runs")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument(
        "--out", help="where data and runs go, and stay; a folder of its own that is removed by default"
    )
    given = parser.parse_args()
    rows = 2_000 if given.quick else given.rows
    with tempfile.TemporaryDirectory() as scratch:
        folder, told = Path(given.out or scratch), dict[str, Any]()
        runs = {"tenth": rows // 10, "whole": rows, "killed": rows}
        for name, size in runs.items():
            if name == "tenth" and given.quick:
                continue
            data = folder / ("data-tenth" if name == "tenth" else "data")
            if name != "killed":
                write(data, size)
            file = folder / f"{name}.yaml"
            file.write_text(yaml.safe_dump(config(data, folder / "runs", name, size)))
            log, seconds = folder / f"{name}.log", 0.0
            if name == "killed":
                shards = sum(1 for _ in (folder / "runs/whole/verified").rglob("part-*.parquet"))
                seconds, _ = run(file, log, max(1, shards // 2), folder / "runs/killed/verified")
            again, peak = run(file, log)
            told[name] = {"rows": size, "seconds": round(seconds + again), "driver_mib": round(peak)}
            told[name]["odd"] = odd_of(folder / "runs" / name)
            print(name, told[name], flush=True)
        same = digest_of(folder / "runs/whole") == digest_of(folder / "runs/killed")
        flat = round(told["whole"]["driver_mib"] / told["tenth"]["driver_mib"], 3) if "tenth" in told else None
        ok = same and not any(one["odd"] for one in told.values())
        print(json.dumps({**told, "same_after_kill": same, "driver_memory_ratio": flat, "ok": ok}))
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
