"""Curation as blocks against the code of another commit: equal to the row, and as fast?

    python benchmarks/curation_blocks.py [--quick] [--commit COMMIT] [--rows N] [--repeats N]

A million synthetic traces, twenty a problem, with every reason that a block can give planted: two of a hundred problems are a
copy of an earlier one, exact or with a word replaced, some hold a problem of the benchmark or are in French, and traces are cut
off, short, repetitive, of a broken form or of another model. Both codes run all passes of `curate` with every block on in a
process of their own, one task after another, without Ray, in turn. COMMIT is by default the last one before blocks were classes;
its code is taken out of git. What must be equal: every count that the old code has, and every row of `examples`, `pairs`,
`dropped` and `pass_rates` but for their order in a file. What is compared in time is the processes' CPU seconds in the passes,
the smallest of each. The last line is JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import io
import json
import os
import random
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BEFORE = "7a8d910"
HERE = Path(__file__).resolve().parents[1]
TRACES, SHARD_ROWS = 20, 25_000
TABLES = ("examples", "pairs", "dropped", "pass_rates")
SYLLABLES = ("ba", "co", "di", "fu", "ge", "hi", "ka", "lo", "mu", "ne", "pi", "ra", "so", "ti", "vu", "wen")
FRENCH = (
    "Combien de {} reste-t-il dans la boutique si le marchand en vend {} chaque jour pendant {} jours de la semaine ?"
)
CONFIG: dict[str, Any] = {
    "duplicates": {},
    "contamination": {"benchmarks": True},
    "language": {},
    "difficulty": {
        "model": "teacher",
        "max_rate": 0.99,
        "buckets": [{"up_to": 0.3, "max_problems": 20_000}, {"up_to": 1}],
    },
    "chosen": {"truncated": False, "min_chars": 60, "format": {}, "repetition": {}, "pick": "shortest"},
    "rejected": {"truncated": False, "max_chars": 3_000, "repetition": {}, "pick": "most_frequent_wrong"},
    "max_response_tokens": 400,
}

# ------------------------------------------------------------------------------------------------------ what goes in


def problem(number: int) -> str:
    """A text that is like no other, or an earlier one's copy."""
    chance = random.Random(number)
    kind = chance.random()
    if kind < 0.01 and number > 100:
        return problem(number - 97).upper()
    if kind < 0.02 and number > 100:
        return problem(number - 97).replace("trader", "farmer")
    if kind < 0.03:
        return FRENCH.format("tomates", number, chance.randrange(2, 9))
    one, two, three, four = ("".join(chance.choices(SYLLABLES, k=3)) for _ in range(4))
    a, b = chance.randrange(2, 90), chance.randrange(2, 90)
    return (
        f"The {one} of {two} has {a} bags, and a trader brings {b} more of them every week from {three}. "
        f"How many bags are there in the {four} after {a + b} weeks?"
    )


def completion(chance: random.Random, answer: int) -> str:
    kind = chance.random()
    lines = [f"Step {step}: {chance.randrange(10**6)} + {chance.randrange(10**6)}" for step in range(3)]
    body = "so\n" * 300 if kind < 0.02 else "" if kind < 0.04 else "\n".join(lines)
    closing = "" if 0.04 < kind < 0.06 else "</think>"
    boxes = 2 if 0.06 < kind < 0.08 else 1
    return f"<think>{body}{closing}" + rf" So it is \boxed{{{answer}}}." * boxes


def rows(problems: int) -> Iterator[dict[str, Any]]:
    for number in range(problems):
        chance = random.Random(-number - 1)
        for index in range(TRACES):
            verdict = chance.choices(("correct", "wrong", "no_answer", "timeout"), (45, 45, 8, 2))[0]
            answer = number if verdict == "correct" else number + chance.randrange(1, 4)
            yield {
                "problem_id": f"synthetic-{number}",
                "problem": problem(number),
                "answer": str(number),
                "trace_id": f"synthetic-{number}#{index}",
                "sample_index": index,
                "completion": completion(chance, answer),
                "model": "teacher" if chance.random() < 0.95 else "other",
                "finish_reason": "length" if chance.random() < 0.03 else "stop",
                "extracted_answer": str(answer),
                "verdict": verdict,
                "verdict_by": [("label", verdict)],
            }


def write_input(folder: Path, count: int) -> None:
    """Shards and the student's tokenizer."""
    import pyarrow as pa

    from redi_ray.modeling.tokenizer import train_bpe_tokenizer
    from redi_ray.schemas import VERIFIED_TRACE
    from redi_ray.store import parquet

    part: list[dict[str, Any]] = []
    for number, row in enumerate(rows(count // TRACES), start=1):
        part.append(row)
        if len(part) == SHARD_ROWS or number == count:
            table = pa.Table.from_pylist(part, schema=VERIFIED_TRACE)
            parquet.write_table(f"{folder}/in/part-{(number - 1) // SHARD_ROWS:05d}.parquet", table)
            part = []
    texts = [row["completion"] + row["problem"] for row in rows(100)]
    train_bpe_tokenizer(texts, 600).save_pretrained(str(folder / "tokenizer"))


# ------------------------------------------------------------------------------------------------------ what is timed


def curate_here(folder: Path, out: Path) -> None:
    """All passes by the code that Python finds first; prints what was counted, what was written, and the seconds."""
    import pyarrow as pa

    from redi_ray.config.curation import CurateConfig
    from redi_ray.config.prompts import PromptSettings
    from redi_ray.data.curate.contamination import BENCHMARKS
    from redi_ray.data.curate.curate import Worker, make_curation, run_passes
    from redi_ray.store import parquet, storage

    known = [{"problem_id": f"known-{number}", "problem": problem(number * 50 + 1)} for number in range(50)]
    curation = make_curation(
        storage.list_files(f"{folder}/in", ".parquet"),
        str(out),
        CurateConfig.model_validate(CONFIG),
        tokenizer=str(folder / "tokenizer"),
        prompt=PromptSettings(prefix="<think>"),
        benchmarks=pa.Table.from_pylist(known, schema=BENCHMARKS),
    )
    worker, seconds = Worker(curation), Counter[str]()

    def run(name: str, tasks: list[int]) -> Iterator[Counter[str]]:
        for task in tasks:
            started = time.process_time()
            counts = worker.work(name, task)
            seconds[name] += time.process_time() - started
            yield counts

    counts = dataclasses.asdict(run_passes(curation, run, 0))
    hashes = {}
    for table in TABLES:
        found = hashlib.blake2b()
        for shard in storage.list_files(f"{out}/{table}", ".parquet"):
            for row in sorted(
                json.dumps(row, sort_keys=True) for row in next(parquet.read_tables([shard])).to_pylist()
            ):
                found.update(row.encode())
        hashes[table] = found.hexdigest()
    print(json.dumps({"counts": counts, "hashes": hashes, "seconds": seconds}))


def run_code(code: Path, folder: Path, out: Path) -> dict[str, Any]:
    """The same in a process of its own."""
    told = subprocess.run(
        [sys.executable, __file__, "--here", str(folder), str(out)],
        env={**os.environ, "PYTHONPATH": str(code), "PYTHONSAFEPATH": "1"},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return json.loads(told.stdout.splitlines()[-1])


def old_code(commit: str, folder: Path) -> Path:
    packed = subprocess.run(["git", "archive", commit, "redi_ray"], cwd=HERE, stdout=subprocess.PIPE, check=True)
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20,000 rows")
    parser.add_argument("--commit", default=BEFORE)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--here", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        curate_here(*options.here)
        return
    count = 20_000 if options.quick else options.rows
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_input(folder, count)
        codes = {"old": old_code(options.commit, folder / "old"), "new": HERE}
        found: dict[str, list[dict[str, Any]]] = {"old": [], "new": []}
        for repeat in range(options.repeats):
            for which, code in codes.items():
                found[which].append(run_code(code, folder, folder / f"out-{which}-{repeat}"))
                print(which, {k: round(v, 1) for k, v in found[which][-1]["seconds"].items()}, flush=True)
    first = found["old"][0]
    runs = [one for each in found.values() for one in each]
    equal = {
        "counts": all(one["counts"].get(name) == told for one in runs for name, told in first["counts"].items()),
        "hashes": all(one["hashes"] == first["hashes"] for one in runs),
    }
    seconds = {which: min(sum(one["seconds"].values()) for one in each) for which, each in found.items()}
    print(json.dumps(first["counts"], indent=1))
    ratio = round(seconds["new"] / seconds["old"], 3)
    print(f"counts equal: {equal['counts']}, rows equal: {equal['hashes']}, CPU seconds {seconds}, new/old {ratio}")
    told = {name: round(value, 1) for name, value in seconds.items()}
    print(json.dumps({"rows": count, "commit": options.commit, **equal, "seconds": told, "ratio": ratio}))
    if not all(equal.values()):
        sys.exit("the two codes do not agree")


if __name__ == "__main__":
    main()
