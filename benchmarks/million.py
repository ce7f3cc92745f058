"""A million traces through the real stages on one small machine: is the driver's memory flat, does every row reconcile?

    python benchmarks/million.py                 100,000 traces, then 1,000,000, the latter killed half-way and resumed
    python benchmarks/million.py --quick         10,000 alone
    python benchmarks/million.py --rows N --small M --data-folder FOLDER

Synthetic traces (four of each problem, a few hundred characters, one problem in twenty with an answer that only
Math-Verify can compare) lie in gzipped JSON lines and Parquet files; some rows are broken on purpose. `redi-ray curate`
runs import, verification and curation in a process of its own, whose resident memory and that of its workers is sampled.
In the second size that process gets SIGKILL when half of the verified shards are there, and is started again: shards
that were there must not be touched again. What should come out is known from how the rows were made, to the last one.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from redi_ray.store import manifests, parquet, storage

TRACES_PER_PROBLEM = 4
FILES = 8
FILLER = (
    "We write down what is given and look for a relation between the quantities.",
    "Adding both sides keeps the balance, which leaves one unknown on the left.",
    "A short check with small numbers shows that nothing was lost on the way.",
    "Dividing by the common factor makes the numbers smaller.",
)

# ------------------------------------------------------------------------------------------------------ what goes in


def problem_answer(index: int) -> tuple[str, str, str]:
    """The gold answer of a problem, another spelling of it, and a wrong answer."""
    if index % 20 == 0:
        top, bottom, root = index + 1, index % 97 + 2, (2, 3, 5, 7)[index % 4]
        gold = rf"\frac{{{top}\sqrt{{{root}}}}}{{{bottom}}}"
        return gold, rf"\frac{{{top}}}{{{bottom}}}\sqrt{{{root}}}", rf"\frac{{{top + 1}}}{{{bottom}}}\sqrt{{{root}}}"
    if index % 5 == 0:
        return rf"\frac{{{index}}}{{7}}", f"{index}/7", f"{index + 1}/7"
    return str(index), f" {index} ", str(index + 1)


def trace_rows(count: int, expected: Counter[str]) -> Iterator[dict[str, Any] | None]:
    """`count` rows, one trace each; None stands for a line that is no JSON. `expected` counts what should become of them."""
    chance = random.Random(count)
    for problem in range(count // TRACES_PER_PROBLEM):
        made = [one_trace(problem, chance) for _ in range(TRACES_PER_PROBLEM)]
        kinds = [kind for kind, _ in made]
        expected.update(kinds)
        expected["problems"] += any(kind != "unreadable_row" for kind in kinds)
        expected["positives"] += "correct" in kinds
        expected["pairs"] += "correct" in kinds and "wrong" in kinds
        yield from (row for _, row in made)


def one_trace(problem: int, chance: random.Random) -> tuple[str, dict[str, Any] | None]:
    """What should become of a row, and the row."""
    gold, spelled, wrong = problem_answer(problem)
    text, draw = " ".join(chance.choices(FILLER, k=5)), chance.random()
    row: dict[str, Any] = {
        "problem_id": f"p{problem:07d}",
        "problem": f"Problem {problem}: find the number that satisfies the equation number {problem}.",
        "answer": gold,
        "source": f"book {problem % 7}",
    }
    if draw < 0.55:
        return "correct", row | {"completion": f"{text} The answer is $\\boxed{{{spelled}}}$."}
    if draw < 0.9:
        return "wrong", row | {"completion": f"{text} The answer is $\\boxed{{{wrong}}}$."}
    if draw < 0.998:
        return "no_answer", row | {"completion": f"{text} The next step would be to"}
    return ("no_completion", row | {"completion": None}) if draw < 0.999 else ("unreadable_row", None)


def write_traces(folder: Path, count: int) -> Counter[str]:
    """FILES files of `count` traces below `folder`, alternately JSON lines and Parquet; what should become of them."""
    folder.mkdir(parents=True)
    expected: Counter[str] = Counter()
    rows = trace_rows(count, expected)
    left = count
    for number in range(FILES):
        size = left // (FILES - number)
        left -= size
        part = list(itertools.islice(rows, size))
        if number % 2:  # a Parquet row is never unreadable; its broken ones have no problem
            expected["no_problem"] += (broken := sum(row is None for row in part))
            expected["unreadable_row"] -= broken
            empty = dict.fromkeys(("problem_id", "problem", "answer", "source", "completion"))
            table = pa.Table.from_pylist([row or empty for row in part])
            pq.write_table(table, folder / f"part-{number}.parquet", row_group_size=20_000)
            continue
        with gzip.open(folder / f"part-{number}.jsonl.gz", "wt", compresslevel=1) as file:
            file.writelines("{broken\n" if row is None else json.dumps(row) + "\n" for row in part)
    return expected


def write_config(folder: Path, traces: Path) -> Path:
    config = {
        "name": "million",
        "problems": {"source": {"kind": "files", "paths": [str(traces)], "columns": {"completion": "completion"}}},
        "generate": {"kind": "import"},
        "model": {"init": {"kind": "scratch"}, "prompt": {"prefix": ""}},
        "evaluate": {"benchmarks": []},
        "resources": {"engine": {"device": "cpu"}},
        "storage": {"root": str(folder / "runs")},
    }
    path = folder / "million.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


# -------------------------------------------------------------------------------------------------- running, watching


@dataclass
class Watch:
    """Peaks of resident memory (shared pages included) of a driver and of its processes, sampled twice a second."""

    driver: psutil.Process
    peaks: Counter[str] = field(default_factory=Counter)
    """Name of a process -> bytes; `driver` is the driver."""
    ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.ended.wait(0.5):
            try:
                self._see("driver", self.driver)
                for child in self.driver.children(recursive=True):
                    self._see(child.cmdline()[0].split("::")[-1].rsplit("/", 1)[-1], child)
            except (psutil.Error, IndexError):
                continue  # it ended between two looks

    def _see(self, name: str, process: psutil.Process) -> None:
        self.peaks[name] = max(self.peaks[name], process.memory_info().rss)


def curate(config: Path, peaks: Counter[str], kill_when: Any = None) -> float:
    """`redi-ray curate` to its end, or until `kill_when()` holds and it is killed; seconds."""
    started = time.monotonic()
    command = [sys.executable, "-m", "redi_ray.cli", "curate", str(config)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    watch = Watch(psutil.Process(process.pid), peaks)
    threading.Thread(target=watch.run, daemon=True).start()
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()), daemon=True)
    reader.start()
    while process.poll() is None:
        if kill_when is not None and kill_when():
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            watch.ended.set()
            time.sleep(5)  # Ray's own reaper ends what the driver has left behind
            return time.monotonic() - started
        time.sleep(0.1)
    watch.ended.set()
    reader.join(10)
    if process.returncode or kill_when is not None:
        raise RuntimeError(f"redi-ray curate ended with {process.returncode}:\n{''.join(lines)[-4000:]}")
    return time.monotonic() - started


def verified_shards(run: Path) -> dict[str, int]:
    """Verified shard -> when it was written."""
    found = storage.list_files(str(run / "verified"), ".parquet")
    return {uri: os.stat(uri).st_mtime_ns for uri in found}


def check(run: Path, rows: int, expected: Counter[str]) -> list[str]:
    """What does not add up."""
    stages = {
        name: manifests.current_manifest(str(run), name) for name in ("problems", "traces", "verified", "curated")
    }
    verdicts = ("correct", "wrong", "no_answer")
    usable = sum(expected[verdict] for verdict in verdicts)
    found = {
        "rows in": (stages["problems"].counts["in"], rows),
        "rows rejected": (
            stages["problems"].rejected,
            {reason: expected[reason] for reason in ("no_problem", "unreadable_row") if expected[reason]},
        ),
        "problems": (stages["problems"].counts["out"], expected["problems"]),
        "traces": (stages["traces"].counts["out"], usable),
        "traces rejected": (stages["traces"].rejected, {"no_completion": expected["no_completion"]}),
        "verified": (stages["verified"].counts["out"], usable),
        "curated in": (stages["curated"].counts["in"], expected["problems"]),
        "positives": (stages["curated"].counts["positives"], expected["positives"]),
        "pairs": (stages["curated"].counts["pairs"], expected["pairs"]),
        **{name: (stages["verified"].facts["verdicts"][name], expected[name]) for name in verdicts},
    }
    ids: set[int] = set()
    for table in parquet.read_tables(stages["verified"].files("verified"), ["trace_id"]):
        ids.update(map(hash, table["trace_id"].to_pylist()))
    found["distinct trace ids"] = (len(ids), usable)
    return [f"{name}: {got}, expected {wanted}" for name, (got, wanted) in found.items() if got != wanted]


def run_size(scratch: Path, rows: int, *, kill: bool) -> dict[str, Any]:
    """One size from files to pairs; with `kill`, killed half-way through verification and resumed."""
    folder = scratch / str(rows)
    started = time.monotonic()
    expected = write_traces(folder / "traces", rows)
    print(f"{rows:,} traces written in {time.monotonic() - started:.0f} s", flush=True)
    config, run, peaks = write_config(folder, folder / "traces"), folder / "runs" / "million", Counter[str]()
    result: dict[str, Any] = {}
    seconds, untouched = 0.0, {}
    if kill:

        def half() -> bool:
            traces = len(storage.list_files(str(run / "traces"), ".parquet"))
            return (run / "traces" / "manifest.json").exists() and len(verified_shards(run)) >= traces / 2

        seconds = curate(config, peaks, half)
        untouched = verified_shards(run)
        print(f"killed after {seconds:.0f} s with {len(untouched)} verified shards", flush=True)
    seconds += curate(config, peaks)
    if kill:
        after = verified_shards(run)
        again = [uri for uri, written in untouched.items() if after.get(uri) != written]
        result["rows_recomputed"] = sum(pq.read_metadata(uri).num_rows for uri in again)
        result["shards_at_kill"], result["shards"] = len(untouched), len(after)
    wrong = check(run, rows, expected)
    for line in wrong:
        print(f"  does not reconcile: {line}")
    names = ("problems", "traces", "verified", "checkpoints/base", "curated")
    stages = {name: manifests.current_manifest(str(run), name).seconds for name in names}
    workers = max((peak for name, peak in peaks.items() if name not in ("driver", "raylet", "gcs_server")), default=0)
    largest = ", ".join(f"{name} {peak >> 20} MB" for name, peak in peaks.most_common(6))
    print(f"{rows:,} traces in {seconds:.0f} s: {stages}; peaks: {largest}", flush=True)
    return {
        "rows": rows,
        "seconds": round(seconds, 1),
        "stage_seconds": stages,
        "driver_peak_mb": peaks["driver"] >> 20,
        "largest_worker_mb": workers >> 20,
        "reconciled": not wrong,
        **result,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10,000 traces, the smaller size left out")
    parser.add_argument("--rows", type=int, default=1_000_000, help="the larger size, killed and resumed")
    parser.add_argument("--small", type=int, default=100_000, help="the smaller size; 0 leaves it out")
    parser.add_argument("--data-folder", help="where files and runs go; a temporary folder by default")
    options = parser.parse_args()
    small, large = (0, 10_000) if options.quick else (options.small, options.rows)
    with tempfile.TemporaryDirectory(prefix="million", dir=options.data_folder) as scratch:
        result: dict[str, Any] = {"benchmark": "million", "quick": options.quick}
        if small:
            result["small"] = run_size(Path(scratch), small, kill=False)
        result["large"] = run_size(Path(scratch), large, kill=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
