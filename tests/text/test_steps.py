"""A step never loses or gains a character, and what is written as steps comes back as the same steps."""

from __future__ import annotations

import gzip
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from redi_ray.config.worlds import ArithmeticSource
from redi_ray.data.sources.world import corpus
from redi_ray.text.steps import FORMS, form_of, split_header, split_steps, step_body


def steps_of(text: str, form=None) -> list[str]:
    return [text[start:end] for start, end in split_steps(text, form)]


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    with gzip.open(folder / "steps_turns_rewards" / f"{name}.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    ("text", "form", "steps"),
    [
        ("", "sentences", []),
        ("So it is 3", "sentences", ["So it is 3"]),
        (" \n ", "sentences", [" \n "]),
        ("Step 1: a\nStep 2: b\nStep 3: c", "headers", ["Step 1: a\n", "Step 2: b\n", "Step 3: c"]),
        ("First.\n\nStep 1: a\n\nStep 3: b\n\nSo 3.", "headers", ["First.\n\nStep 1: a\n\n", "Step 3: b\n\nSo 3."]),
        ("**Step 1:** a\r\n\r\n### Step 2\r\nb", "headers", ["**Step 1:** a\r\n\r\n", "### Step 2\r\nb"]),
        ("Step 1: a\n```\nStep 2: no\n```\nStep 2: b", "headers", ["Step 1: a\n```\nStep 2: no\n```\n", "Step 2: b"]),
        ("a stepping stone. Step 2 is odd.", "sentences", ["a stepping stone. ", "Step 2 is odd."]),
        (
            "<think>\n3+4=7\n7*2=5\n</think>\n\\boxed{5}",
            "equations",
            ["<think>\n3+4=7\n", "7*2=5\n", "</think>\n\\boxed{5}"],
        ),
        ("So:\n1. a\n   1. x\n   2. y\n2. b\n3) c", "numbered", ["So:\n1. a\n   1. x\n   2. y\n", "2. b\n", "3) c"]),
        ("It is\n3.14 of it\n2. b", "sentences", ["It is\n", "3.14 of it\n", "2. b"]),
        (
            "We get\n\n\\[\nx = 1\n\n+ 2\n\\]\n\n---\n\nDone",
            "paragraphs",
            ["We get\n\n", "\\[\nx = 1\n\n+ 2\n\\]\n\n", "---\n\nDone"],
        ),
        ("Do\n\n```\na\n\nb\n```\n\n</think>", "paragraphs", ["Do\n\n", "```\na\n\nb\n```\n\n</think>"]),
        (
            "Pi is 3.14, e.g. This. It costs $5. Then $6. Let $x. Y$ be 2! Why?",
            "sentences",
            ["Pi is 3.14, e.g. This. ", "It costs $5. ", "Then $6. ", "Let $x. Y$ be 2! ", "Why?"],
        ),
        (
            "\u7b2c\u4e00\u6b65\u3002\u7b54\u6848\u662f 3\uff01",
            "sentences",
            ["\u7b2c\u4e00\u6b65\u3002", "\u7b54\u6848\u662f 3\uff01"],
        ),
    ],
)
def test_each_form_is_found_and_split(text, form, steps):
    assert form_of(text) == form
    assert steps_of(text) == steps


@pytest.mark.parametrize(
    ("step", "header"),
    [
        ("Step 2: b", "Step 2:"),
        ("**Step 2:** b", "**Step 2:**"),
        ("**Step 2**: b", "**Step 2**:"),
        ("### Step 2\nb", "### Step 2"),
        ("Step 1.2 - b", "Step 1.2 -"),
        ("Let us go.\nStep 1: b", "Let us go.\nStep 1:"),
        ("Steps 2", ""),
        ("In Step 2: b", ""),
    ],
)
def test_a_header_goes_to_the_prompt(step, header):
    assert step[: split_header(step)] == header


def test_a_step_is_what_is_written_between_two_headers():
    text = "Step 1: a\nStep 2: b\nStep 3: c"
    start, end = step_body(text, split_steps(text)[1])
    assert (text[:start], text[start:end]) == ("Step 1: a\nStep 2:", " b")
    assert step_body("Step 1:  ", (0, 9)) == (7, 7), "an empty step is empty"


def test_steps_of_real_solutions_cover_them_and_come_back(test_data):
    """However they are joined, and however they are split."""
    texts = [row["solution"] for row in rows(test_data, "mathcheck_process")]
    lists = [row["steps"] for row in rows(test_data, "processbench_gsm8k")]
    lists += [row[side] for row in rows(test_data, "prmbench_steps") for side in ("steps_right", "steps_wrong")]
    back = 0
    for steps in lists:
        headed = "\n".join(f"Step {number}: {step}" for number, step in enumerate(steps, 1))
        bodies = [headed[slice(*step_body(headed, step))] for step in split_steps(headed)]
        own = any(re.search(r"(?m)^\W*Step \d", step) for step in steps)
        assert own or bodies == [f" {step}".rstrip() for step in steps]
        back += [step.rstrip() for step in steps_of("\n\n".join(steps), "paragraphs")] == [s.rstrip() for s in steps]
        texts += [headed, "\n\n".join(steps), " ".join(steps)]
    assert back / len(lists) > 0.97, "what is left has blank lines, or nothing but signs, in a step"
    for number, text in enumerate(texts):
        for form in (None, *FORMS)[: 6 if number % 8 == 0 else 1]:
            steps = steps_of(text, form)
            assert "".join(steps) == text
            assert all(steps), "no step is empty"


def test_named_steps_are_those_of_the_lines_that_name_them(test_data):
    for row in rows(test_data, "mathcheck_process"):
        named = [int(number) for number in re.findall(r"(?m)^\s*(?:\*\*)?Step (\d+)", row["solution"])]
        assert len(steps_of(row["solution"])) == len(named)
        assert row["gold_step"] in named, "four of them skip a number"


def test_a_solution_of_the_built_in_world_is_its_lines():
    for problem, solution in corpus(ArithmeticSource(kind="arithmetic"), 50):
        assert form_of(solution) == "equations"
        assert len(steps_of(solution)) == len(problem) // 2 + (len(problem) > 1), solution


@pytest.mark.parametrize(
    "piece", [" ", "\n", "$", "\\[", "`", "1", "1=", ". ", "Step 1: ", "**", "\\begin{a}", "(\u00e9"]
)
def test_a_loop_of_anything_is_split_in_time(piece):
    """What a model that has lost its way writes; a pattern that tries every way to read it would take hours."""
    text, started = piece * 30_000, time.monotonic()
    for form in (None, *FORMS):
        assert "".join(steps_of(text, form)) == text
    assert time.monotonic() - started < 10
