"""Parts that the texts of first configs have in common, each line with what was guessed, and why, behind it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml
from pydantic import BaseModel

from redi_ray.starter.reading import Reading, flat
from redi_ray.starter.student import SCRATCH, Student

Lines = list[str]
WIDTH = 10_000
SFT_RATE, REDI_RATE, SCRATCH_RATE = 1e-5, 1e-6, 1e-3
"""Peak learning rates: of fine-tuning, of learning from pairs, of a model that begins with random weights."""
MOST_BATCH = 32
TEMPLATE = 64
"""Tokens of what a chat template writes around a prompt."""
SEEN = 40
"""Characters of a sample in a comment."""


class _OneLine(yaml.SafeDumper):
    """Writes texts of several lines in quotes, with their breaks as `\\n`."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", text, style='"' if "\n" in text else None)


_OneLine.add_representer(str, _OneLine.represent_text)


def flow(value: Any) -> str:
    """A value as YAML on one line."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_defaults=True)
    text = yaml.dump(value, Dumper=_OneLine, default_flow_style=True, sort_keys=False, allow_unicode=True, width=WIDTH)
    return text.removesuffix("\n").removesuffix("...").strip()


def seen(reading: Reading, path: str) -> str:
    """What a column holds, for a comment."""
    return f"such as {reading.columns[path].sample[:SEEN]!r}" if path in reading.columns else "in some rows"


def source_of(reading: Reading) -> dict[str, Any]:
    """Where the set lies, as a config says it."""
    return {"kind": reading.head.source.kind, **reading.head.source.model_dump(mode="json", exclude_defaults=True)}


def batch_of(reading: Reading, most: int = MOST_BATCH) -> int:
    """Groups a step: so many that there are some steps."""
    rows = len(reading.head.rows) if reading.head.whole else 100 * most
    size = 1
    while 2 * size <= min(most, rows / 4):
        size *= 2
    return size


def train(student: Student, reading: Reading, rate: float, epochs: int, length: int) -> str:
    """Settings of a training."""
    rate = SCRATCH_RATE * rate / SFT_RATE if student.path == SCRATCH else rate
    return (
        f"{{learning_rate: {rate:.0e}, batch_size: {batch_of(reading)}, epochs: {epochs}, max_length: {length}, "
        f"on_too_long: drop, tokens_per_pack: {max(4096, length)}}}"
    )


def commented(line: str, why: str) -> str:
    """A line with a comment behind it."""
    return f"{line}  # {' '.join(why.split())}"


def problems_block(reading: Reading) -> Lines:
    """Where problems lie, and their columns, each with why, and a sample."""
    assert reading.source is not None
    where = [f"    {name}: {flow(value)}" for name, value in source_of(reading).items()]
    told = {**reading.source.model_dump(mode="json", exclude_defaults=True), "problem": reading.source.problem}
    told = {"problem": told.pop("problem"), "answer": reading.source.answer, **told}
    lines = ["problems:", "  source:", *where, "    columns:"]
    names = {"completion": "trace", "answer": "answer" if "answer" in reading.guesses else "solution"}
    for name, column in told.items():
        if column is None:  # no such column: problems are told by their text
            lines += [f"      {name}: null"] if name == "problem_id" else []
            continue
        guess = reading.guesses.get(names.get(name, name))
        path = column if isinstance(column, str) else column[0]
        why = f"{guess.why}; {seen(reading, path)}" if guess else seen(reading, path)
        lines.append(commented(f"      {name}: {flow(column)}", why))
    return lines


def longest(texts: Iterable[str]) -> int:
    """Bytes of the longest text."""
    return max((len(text.encode()) for text in texts), default=0)


def lengths(student: Student, answers: Iterable[str], asked: Iterable[str]) -> tuple[int, int]:
    """Most tokens of a prompt and of an answer, within what the model's positions reach over."""
    prompt, answer = student.tokens(longest(asked)) + TEMPLATE, student.tokens(longest(answers))
    whole = student.room(prompt + answer)
    prompt = min(-(-prompt // 64) * 64, whole // 2)
    return prompt, whole - prompt


def model_block(reading: Reading, student: Student) -> Lines:
    """The student and its prompt."""
    if student.path == SCRATCH:
        init = [
            "  init:  # random weights, a tokenizer learnt from the data: it shows the path, and makes no good model",
            "    kind: scratch",
            "    architecture: {hidden_size: 96, num_layers: 3, num_heads: 3, num_kv_heads: 1, intermediate_size: 256, "
            f"max_position_embeddings: {student.positions}}}",
        ]
    else:
        init = [
            f"  init: {{kind: pretrained, path: {flow(student.path)}}}  # any decoder with a chat template: a folder or hub name"
        ]
    prefix = reading.prompt.prefix
    why = "all answers begin with <think>" if prefix else "the answers do not all begin with <think>"
    return ["model:", *init, f"  prompt: {{prefix: {flow_text(prefix)}}}  # {why}"]


def flow_text(text: str) -> str:
    """A text in double quotes."""
    return yaml.safe_dump(text, default_style='"', width=WIDTH).strip()


def evaluation() -> Lines:
    """Benchmarks are the user's to name: they need vLLM, and the hub or files."""
    return [
        "evaluate:",
        "  benchmarks: []  # such as [{name: math500, max_problems: 100}], or a file: {name: mine, path: test.jsonl}; by vLLM",
        "# resources: {trainer: {num_workers: 2}}  # GPUs are used where Ray has any (device: auto)",
    ]


def texts_of(reading: Reading, role: str) -> list[str]:
    """What is read as this."""
    guess = reading.guesses.get(role)
    return [] if guess is None else [text for path in guess.columns for text in flat(reading.columns[path].values)]
