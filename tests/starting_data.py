"""Files in shapes that people have, made up: five that `redi-ray init` must make configs of that run, and odd ones."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

Row = dict[str, Any]
ROWS = 24


def write_jsonl(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def trl_pairs(folder: Path) -> Path:
    """TRL's preference format, in chats."""
    rows = [
        {
            "prompt": [{"role": "user", "content": f"How much is {n} plus {n}?"}],
            "chosen": [{"role": "assistant", "content": f"{n} plus {n} is {2 * n}."}],
            "rejected": [{"role": "assistant", "content": f"{n} plus {n} is {2 * n + 1}."}],
        }
        for n in range(ROWS)
    ]
    return write_jsonl(folder / "pairs.jsonl", rows)


def tool_chats(folder: Path) -> Path:
    """OpenAI's fine-tuning format: calls beside the text, answers of the tool, and what tools there are."""
    tool = {
        "type": "function",
        "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {}, "b": {}}}},
    }
    rows = []
    for n in range(ROWS):
        call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": json.dumps({"a": n, "b": 7})}}
        rows.append(
            {
                "messages": [
                    {"role": "system", "content": "You add numbers."},
                    {"role": "user", "content": f"What is {n} + 7?"},
                    {"role": "assistant", "tool_calls": [call]},
                    {"role": "tool", "tool_call_id": "c1", "content": str(n + 7)},
                    {"role": "assistant", "content": f"It is {n + 7}."},
                ],
                "tools": [tool],
                "parallel_tool_calls": False,
            }
        )
    return write_jsonl(folder / "chats.jsonl", rows)


def gsm8k_rows() -> list[Row]:
    return [
        {
            "question": f"Anna has {n} apples and buys {n + 2} more. How many apples does she have now?",
            "answer": f"She has {n} + {n + 2} = <<{n}+{n + 2}={2 * n + 2}>>{2 * n + 2} apples.\n#### {2 * n + 2}",
        }
        for n in range(ROWS)
    ]


def gsm8k_csv(folder: Path) -> Path:
    """GSM8K's columns, as CSV: a worked solution under the name of an answer, line breaks in its cells."""
    path = folder / "grade-school.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["question", "answer"])
        writer.writeheader()
        writer.writerows(gsm8k_rows())
    return path


def alpaca(folder: Path) -> Path:
    """Stanford Alpaca's: a JSON list of instruction, input (often empty) and output."""
    rows = [
        {
            "instruction": f"Write the number after {n}.",
            "input": "in digits" if n % 2 else "",
            "output": f"It is {n + 1}.",
        }
        for n in range(ROWS)
    ]
    path = folder / "alpaca_data.json"
    path.write_text(json.dumps(rows, indent=1))
    return path


def openr1(folder: Path) -> Path:
    """OpenR1-Math-Raw's schema: two generations of each problem, verdicts of both verifiers."""
    rows = []
    for n in range(ROWS):
        traces = [f"<think>\n{n} times 3\n</think>\nThe answer is \\boxed{{{value}}}." for value in (3 * n, 3 * n + 1)]
        rows.append(
            {
                "problem": f"Compute $3 \\cdot {n}$.", "solution": f"$3 \\cdot {n} = {3 * n}$", "answer": str(3 * n),
                "problem_type": "Algebra", "question_type": "math-word-problem", "problem_is_valid": "Yes",
                "solution_is_valid": "Yes", "source": "olympiads", "synthetic": False, "generations": traces,
                "generations_count": 2, "uuid": f"uuid-{n}",
                "correctness": {"llama_verification": [True, False], "math_verify_reparsed_answer": [True, False]},
                "finish_reasons": ["stop", "stop"],
            }
        )  # fmt: skip
    return write_jsonl(folder / "openr1.jsonl", rows)


FIVE = {"pairs": trl_pairs, "chats": tool_chats, "gsm8k": gsm8k_csv, "alpaca": alpaca, "openr1": openr1}
