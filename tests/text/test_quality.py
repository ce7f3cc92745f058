"""Signs of bad traces, on texts made by hand and on real ones that loop."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from redi_ray.text.quality import compression_ratio, count_final_boxes, repetition, thinks_once


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("<think>a</think> b", True),
        ("<think>a", False),
        ("a</think> b", False),
        ("</think>a<think>", False),
        ("<think>a</think><think>b</think>", False),
        ("", False),
    ],
)
def test_thoughts_open_and_close_once(completion: str, expected: bool):
    assert thinks_once(completion) is expected


@pytest.mark.parametrize(
    ("completion", "boxes"),
    [
        (r"<think>\boxed{1}</think> \boxed{2}", 1),
        (r"<think>\boxed{1}</think> so", 0),
        (r"\boxed{1} and \fbox{2}", 2),
        (r"\boxed 5", 1),
        ("the word boxed, or \\boxed in a sentence", 0),
    ],
)
def test_boxes_count_after_the_thought(completion: str, boxes: int):
    assert count_final_boxes(completion) == boxes


def test_a_loop_at_the_end_shows_in_the_tail_and_one_before_it_in_the_whole():
    varied = " ".join(f"{n * n % 9973} squared is {n**3 % 99991}," for n in range(2000))
    assert repetition(varied, 4000) < 4
    assert compression_ratio(varied + "wait, " * 1000) < 8 < repetition(varied + "wait, " * 1000, 4000)
    assert repetition("wait, " * 40000 + varied[:4000], 4000) > 8
    assert compression_ratio("") == 1


def test_correct_traces_stay_and_endless_ones_go(test_data: Path):
    """The default limit of 8 on 3,000 real solutions. A box that repeats to the end is the usual loop."""
    with gzip.open(test_data / "traces" / "sky_math500.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    correct = [repetition(row["trace"], 4000) for row in rows if row["correct_third_party"]]
    assert len(correct) == 1960
    assert sum(ratio > 8 for ratio in correct) <= 2  # one is cut off in a loop, one repeats itself on the way
    loops = [repetition(row["trace"], 4000) for row in rows if row["trace"].count(r"\boxed{}. \boxed{}. ") > 100]
    assert len(loops) == 39
    assert min(loops) > 8
