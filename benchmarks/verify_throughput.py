"""Verification speed: real traces through our Ray Data stage and through plain Math-Verify, one core each, in one run.

    python benchmarks/verify_throughput.py [--quick] [--data FOLDER]

Plain is `verify(parse(gold), parse(trace))` on the whole text with Math-Verify's own time-outs, in a process of its own
(our worker changes how Math-Verify behaves), warmed by one call. Ours is `verify_traces` with one actor and one worker
process, which take turns. A machine may be twice as fast in one minute as in the next, so the sides take turns, too: a
third of the traces through plain Math-Verify, then all of them through ours, three times, each with new processes and
empty caches; times are summed. Start-up is left out on both sides and printed: the actor's process, and its worker,
which imports sympy and reads some answers to warm the grammar. `speedup` compares time spent on verdicts,
`speedup_with_io` adds our reading and writing of Parquet, which plain does not have, and `stage` has everything, Ray and
start-up too. The last line is JSON.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

SETS = {"math500": "sky_math500", "amc_long": "sky_long_amc23"}
ROWS_PER_SHARD = 250
RUNS = 3

EXPLAINED = {
    ("math500-379", "correct"): "`12^{th} grade` is 12",
    ("math500-8", "correct"): "`3√13`, the root a character",
    ("math500-85", "correct"): "`√5`, the root a character",
    ("math500-277", "correct"): "`√53`, the root a character",
    ("math500-227", "correct"): "the wording of choice (C) is spelled out",
    ("math500-255", "correct"): "the wording of choice (E) is spelled out",
    ("math500-296", "correct"): "the wording of choice (B) is spelled out",
    ("math500-97", "correct"): "`the final answer is east`, in plain text",
    ("math500-311", "correct"): "`the value of n is 3`; plain reads 9 of `modulo 9`",
    ("math500-376", "correct"): "`p are (8, -2)`; plain reads an earlier formula",
    ("math500-448", "correct"): "`44 is the correct answer`; plain reads 83 of `mod 83`",
    ("math500-493", "correct"): "`a + b + c = 11 + 9 + 0 = 20`; plain reads an earlier formula",
    ("math500-13", "no_answer"): "`The height is 5 cm`, without a word that announces a result",
    ("math500-67", "no_answer"): "`The area decreases by 10%`, the same",
    ("math500-391", "no_answer"): "the solution stops without a result; 0 is plain's last number",
    ("math500-404", "no_answer"): "`the answer is three boxes`; plain finds a 3 earlier",
    ("math500-428", "no_answer"): "cut off after the reasoning; nothing is concluded",
    ("math500-476", "no_answer"): "ends in a musing about music; plain finds the number earlier",
    ("math500-465", "no_answer"): "ends in mid-thought; plain finds the number earlier",
}
"""Verdicts that differ from plain Math-Verify's, and why; all others that do are texts cut off in mid-sentence."""
CUT_OFF = "cut off in mid-sentence: no answer here, plain takes a number from the calculation"


def load(data: Path, name: str, every: int) -> list[dict[str, Any]]:
    """Every n-th trace, and every n-th of those that loop over empty boxes, which cost plain Math-Verify its time-out."""
    with gzip.open(data / "traces" / f"{SETS[name]}.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    loops = [row for row in rows if row["trace"].count("\\boxed{}") > 20]
    return [row for row in rows if row not in loops][::every] + loops[::every]


def run_plain(data: Path, name: str, every: int, part: int) -> dict[str, Any]:
    """Plain Math-Verify on every third trace, in a fresh process: seconds, and whether each is right."""
    command = [sys.executable, __file__, "--plain", name, "--every", str(every), "--data", str(data)]
    command += ["--part", str(part)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def plain_main(data: Path, name: str, every: int, part: int) -> None:
    import logging

    from math_verify import parse, verify

    logging.disable(logging.CRITICAL)
    rows = load(data, name, every)[part::RUNS]
    verify(parse("$x+1$"), parse("so $1+x$"))
    start = time.perf_counter()
    right = [bool(verify(parse(f"${row['gold']}$"), parse(row["trace"]))) for row in rows]
    print(json.dumps({"seconds": time.perf_counter() - start, "right": right}))


def write_inputs(rows: list[dict[str, Any]], folder: Path) -> list[str]:
    """The traces as shards."""
    import pyarrow as pa

    from redi_ray.schemas import TRACE
    from redi_ray.store import parquet

    inputs = []
    for start in range(0, len(rows), ROWS_PER_SHARD):
        traces = [
            {
                "problem_id": row["problem_id"],
                "problem": row["problem"],
                "answer": row["gold"],
                "trace_id": f"{row['problem_id']}#{start + i}",
                "sample_index": start + i,
                "completion": row["trace"],
                "model": row["model"],
            }
            for i, row in enumerate(rows[start : start + ROWS_PER_SHARD])
        ]
        inputs.append(str(folder / "in" / f"part-{start:06d}.parquet"))
        parquet.write_table(inputs[-1], pa.Table.from_pylist(traces, schema=TRACE))
    return inputs


@dataclass
class Arms:
    """Both sides' sums over the three turns."""

    plain_right: list[bool]
    """Per trace."""
    ours: list[dict[str, Any]]
    """Rows of the first run."""
    counts: Any
    """VerifyCounts of the last run; its times are means over the runs."""
    plain_seconds: float = 0.0


def take_turns(data: Path, name: str, every: int, folder: Path) -> Arms:
    """A third of the traces through plain Math-Verify, then all through ours, three times."""
    from redi_ray.config.answers import VerifySettings
    from redi_ray.data.verify.traces import verify_traces
    from redi_ray.store import parquet, storage

    rows = load(data, name, every)
    inputs, right, runs, plain_seconds = write_inputs(rows, folder), [False] * len(rows), [], 0.0
    for turn in range(RUNS):
        plain = run_plain(data, name, every, turn)
        plain_seconds += plain["seconds"]
        right[turn::RUNS] = plain["right"]
        runs.append(verify_traces(inputs, str(folder / f"out-{turn}"), VerifySettings(), concurrency=1))
    times = ("verify_seconds", "io_seconds", "start_seconds", "seconds")
    means = {name: sum(getattr(run, name) for run in runs) / RUNS for name in times}
    outputs = storage.list_files(str(folder / "out-0"), ".parquet")
    ours = [row for table in parquet.read_tables(outputs) for row in table.to_pylist()]
    return Arms(right, ours, replace(runs[-1], **means), plain_seconds)


def compare(name: str, rows: list[dict[str, Any]], plain: list[bool], ours: list[dict[str, Any]]) -> tuple[int, int]:
    """Print each trace that only one side calls right; how many there are, and how many without an explanation."""
    differ = unexplained = 0
    for row, right, verified in zip(rows, plain, ours, strict=True):
        if right == (verified["verdict"] == "correct"):
            continue
        differ += 1
        reason = EXPLAINED.get((row["problem_id"], verified["verdict"]))
        if reason is None and verified["verdict"] == "no_answer" and row["trace"].rstrip()[-1] not in ".!":
            reason = CUT_OFF
        unexplained += reason is None
        side = "right" if right else "not right"
        print(f"  {name} {row['problem_id']} {row['model']}: plain {side}, ours {verified['verdict']}: {reason or '?'}")
    return differ, unexplained


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="every 15th MATH-500 trace and every 4th AMC one, under a minute"
    )
    parser.add_argument("--data", type=Path, default=os.environ.get("REDI_TEST_DATA", "../shared/data"))
    parser.add_argument("--plain", choices=SETS, help=argparse.SUPPRESS)
    parser.add_argument("--every", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--part", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plain:
        plain_main(options.data, options.plain, options.every, options.part)
        return

    import ray

    result: dict[str, Any] = {"benchmark": "verify_throughput", "quick": options.quick}
    differ = unexplained = 0
    with tempfile.TemporaryDirectory(prefix="vt", dir="/tmp", ignore_cleanup_errors=True) as scratch:
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=scratch)
        for name in SETS:
            every = {"math500": 15, "amc_long": 4}[name] if options.quick else 1
            rows = load(options.data, name, every)
            arms = take_turns(options.data, name, every, Path(scratch) / name)
            counts = arms.counts
            rate_plain, rate_ours = len(rows) / arms.plain_seconds, len(rows) / counts.verify_seconds
            rate_with_io = len(rows) / (counts.verify_seconds + counts.io_seconds)
            result |= {
                f"speedup_{name}": round(rate_ours / rate_plain, 1),
                f"speedup_with_io_{name}": round(rate_with_io / rate_plain, 1),
                f"plain_{name}_per_s": round(rate_plain, 1),
                f"actor_{name}_per_s": round(rate_ours, 1),
                f"actor_{name}_with_io_per_s": round(rate_with_io, 1),
                f"stage_{name}_per_s": round(len(rows) / counts.seconds, 1),
            }
            print(
                f"{name}: {len(rows)} traces; plain {rate_plain:.1f}/s; our actor {rate_ours:.1f}/s "
                f"({rate_ours / rate_plain:.1f}x, with Parquet {rate_with_io / rate_plain:.1f}x: {counts.io_seconds:.2f} s "
                f"beside {counts.verify_seconds:.2f} s); "
                f"worker start-up {counts.start_seconds:.1f} s (left out); "
                f"whole stage {counts.seconds:.1f} s with Ray's start of the actor; "
                f"{counts.quick} by the fast path, {counts.cached} cached, {counts.compared} by Math-Verify"
            )
            found = compare(name, rows, arms.plain_right, arms.ours)
            differ, unexplained = differ + found[0], unexplained + found[1]
        ray.shutdown()
    print(json.dumps(result | {"verdicts_differ": differ, "verdicts_differ_unexplained": unexplained}))


if __name__ == "__main__":
    main()
