"""Sources of problems for tests: rows, files, and what a pass over them leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from redi_ray.config.problems import ProblemsConfig
from redi_ray.data.sources.problems import ProblemCounts, collect_problems
from redi_ray.store import parquet, storage

OPENR1 = {
    "problem": "1+1", "solution": "2", "answer": "2", "source": "olympiads", "uuid": "u0", "problem_is_valid": "Yes",
    "generations": ["<think>a</think>2", "<think>b</think>3"],
    "correctness": {"llama_verification": [True, False], "math_verify_reparsed_answer": [True, False]},
}  # fmt: skip


def openr1(uuid: str, *, llama: Any = (True, False), verified: Any = (True, False), **changes: Any) -> dict[str, Any]:
    correctness = {
        "llama_verification": llama and list(llama),
        "math_verify_reparsed_answer": verified and list(verified),
    }
    return {**OPENR1, "uuid": uuid, "problem": f"problem {uuid}", "correctness": correctness, **changes}


def collect(source: Any, out: Path, **config: Any) -> tuple[ProblemCounts, list[dict], list[dict], list[dict]]:
    counts = collect_problems(ProblemsConfig(source=source, **config), str(out))
    tables = [
        [row for table in parquet.read_tables(storage.list_files(f"{out}/{name}")) for row in table.to_pylist()]
        for name in ("problems", "imported", "rejects")
    ]
    assert counts.counts["in"] == counts.counts["out"] + sum(counts.dropped.values()) + sum(counts.rejected.values())
    return counts, *tables


def write_lines(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return str(path)
