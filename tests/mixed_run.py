"""A small corpus of three sources: sums with references, programs with tests, and questions with neither."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sandboxes import isolation

TESTS = {"inputs": ["2\n", "5\n"], "outputs": ["4\n", "10\n"]}
SUMS, PROGRAMS, QUESTIONS = 40, 12, 24


def write_sources(folder: Path, files: int = 1) -> None:
    """Rows in so many files of each source; each has columns of its own, and two traces, of which the second is worse."""
    sources = {
        "sums": [
            {"n": number, "question": f"Add {number} and {3 * number + 1} for row {number}.", "gold": str(4 * number + 1),
             "tries": [_boxed(4 * number + 1), _boxed(4 * number + 2)]}
            for number in range(SUMS)
        ],
        "programs": [
            {"task": f"Print twice the number that is read, in version {number}.", "checks": json.dumps(TESTS),
             "code": [_code("print(2 * int(input()))"), _code("print(3 * int(input()))")], "from": "contest"}
            for number in range(PROGRAMS)
        ],
        "questions": [
            {"ask": f"What is good about thing number {number}?",
             "replies": ["<think>\nIt helps.\n</think>\nIt is good, and it lasts for long.", "<think>\nNo.\n</think>\nNo."]}
            for number in range(QUESTIONS)
        ],
    }  # fmt: skip
    for name, rows in sources.items():
        for part in range(files):
            text = "".join(json.dumps(row) + "\n" for row in rows[part::files])
            (folder / f"{name}-{part}.jsonl").write_text(text)


def _boxed(answer: int) -> str:
    return f"<think>\nI add them.\n</think>\nThe sum is \\boxed{{{answer}}}."


def _code(line: str) -> str:
    return f"<think>\nI write it.\n</think>\n```python\n{line}\n```"


def mixed_config(folder: Path, name: str, *, files: int = 1, **mix: Any) -> dict[str, Any]:
    """Of these rows: 20 sums, 10 programs, 20 questions, whose traces are graded by their length."""

    def source(kind: str, **columns: Any) -> dict[str, Any]:
        return {"kind": "files", "paths": [str(folder / f"{kind}-{part}.jsonl") for part in range(files)],
                "columns": {"problem_id": None, **columns}}  # fmt: skip

    return {
        "name": name,
        "storage": {"root": str(folder)},
        "problems": {"source": {"kind": "mix", "of": ["sums", "programs", "questions"], "size": 50,
                                "weights": {"sums": 2, "programs": 1, "questions": 2}, **mix}},
        "generate": {"kind": "import"},
        "verify": {"tests": {"isolation": isolation(), "cpu_seconds": 2}, "processes": 1},
        "steps": {
            "sums": {"do": "problems", "licence": "mit", "verified_by": "reference",
                     "source": source("sums", problem="question", answer="gold", completion="tries")},
            "programs": {"do": "problems", "verified_by": "tests",
                         "source": source("programs", problem="task", tests="checks", completion="code", source="from")},
            "questions": {"do": "problems", "licence": "cc-by-4.0", "verified_by": "neither",
                          "source": source("questions", problem="ask", completion="replies")},
            "length": {"do": "score", "of": "verified", "scorer": {"name": "length"}},
            "graded": {"do": "grade", "of": "verified", "by": "length", "right": 50, "wrong": 40},
        },
        "curate": {"of": "graded"},
        "model": {"init": {"kind": "scratch", "vocab_size": 400}},
        "resources": {"ray": {"num_cpus": 4}, "verify_workers": 1, "curate_workers": 1},
    }  # fmt: skip
