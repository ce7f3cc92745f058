"""Loops are found exactly where a tail repeats, and hardly a real trace that came to an end would have been stopped."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redi_ray.config.loops import LoopSettings
from redi_ray.text.loops import infer_finish_reason, loop_period, text_loop, token_loop

SMALL = LoopSettings(min_repeats=3, min_tokens=16, max_period=12)


def slow_period(tokens: list[int], rule: LoopSettings) -> int | None:
    """The definition, word for word."""
    for period in range(1, rule.max_period + 1):
        length = max(rule.min_repeats * period, rule.min_tokens)
        tail = tokens[-length:]
        if len(tail) == length and all(tail[i] == tail[i - period] for i in range(period, length)):
            return period
    return None


@settings(max_examples=300)
@given(
    start=st.lists(st.integers(0, 3), max_size=40),
    passage=st.lists(st.integers(0, 3), min_size=1, max_size=14),
    length=st.integers(0, 60),
)
def test_what_is_found_is_what_the_definition_says(start: list[int], passage: list[int], length: int):
    """Few different tokens, so that passages overlap and repeat by chance too."""
    tokens = start + (passage * (length // len(passage) + 1))[:length]
    assert token_loop(tokens, SMALL) == slow_period(tokens, SMALL)


@given(passage=st.text("ab \n", min_size=1, max_size=9), repeats=st.integers(3, 20), cut=st.integers(0, 8))
def test_the_tail_may_end_anywhere_in_its_passage(passage: str, repeats: int, cut: int):
    text = "x" + passage * (repeats + 16) + passage[: cut % len(passage)]
    period = loop_period(text, min_repeats=3, min_length=16, max_period=12)
    assert period is not None
    assert len(passage) % period == 0 or text[-3 * period :] == text[-period:] * 3


def test_token_ids_of_any_vocabulary():
    """Ids above 0xD800 are no characters of their own in UTF-8, but they are here."""
    passage = [0xD800, 0xDFFF, 151_935, 10]
    assert token_loop([7, *passage * 5], SMALL) == 4


def real_traces(data: Path) -> Iterator[tuple[str, str, bool | None]]:
    """(place, text, whether it finished, None where the data does not say) of 9,476 traces."""
    for name in ("sky_long_amc23", "sky_math500"):
        with gzip.open(data / "traces" / f"{name}.jsonl.gz", "rt") as file:
            for number, line in enumerate(file):
                row = json.loads(line)
                yield f"{name}:{number}", row["trace"], row["finished"]
    with gzip.open(data / "traces" / "gsm8k_openai_example_model_solutions.jsonl.gz", "rt") as file:
        for number, line in enumerate(file):
            row = json.loads(line)
            for model in sorted(key for key in row if key.startswith(("6b_", "175b_"))):
                yield f"gsm8k:{number}:{model}", row[model]["solution"], None
    with gzip.open(data / "traces" / "qwen2.5math_cot_100x8.jsonl.gz", "rt") as file:
        for number, line in enumerate(file):
            for sample, text in enumerate(json.loads(line)["code"]):
                yield f"qwen:{number}:{sample}", text, None


def test_real_traces_that_end_are_not_called_cut_off(test_data: Path):
    """What the data calls finished is never `loop` or `length`; nearly all that it calls unfinished is."""
    rule, unfinished, found = LoopSettings(), 0, 0
    for place, text, finished in real_traces(test_data):
        reason = infer_finish_reason(text, rule)
        assert not (finished and reason), f"{place} has ended, but is called {reason}: {text[-200:]!r}"
        if finished is False:
            unfinished, found = unfinished + 1, found + (reason is not None)
    assert unfinished == 215
    assert found >= 196


def test_of_real_traces_only_one_leaves_its_loop(test_data: Path):
    """Looked at every 250 characters, as the engine does every 64 tokens: what would have been stopped, and wrongly.

    The one that goes on says the same 1,076 characters eleven times and then boxes a wrong answer.
    """
    rule, stopped, left = LoopSettings(), 0, []
    for place, text, _ in real_traces(test_data):
        for size in range(250, len(text) + 1, 250):
            period = text_loop(text[:size], rule)
            if period is not None:
                stopped += 1
                goes_on = next((i for i in range(size, len(text)) if text[i] != text[i - period]), None)
                if goes_on is not None:
                    left.append(place)
                break
    assert left == ["sky_math500:285"]
    assert stopped >= 195


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        ("<think>\nSo 2 + 2 is", "length"),
        ("<think>\nIt is 4.\n</think>\nThe answer is \\boxed{4}.", None),
        ("<|begin_of_thought|> hm. <|end_of_thought|> It is 4.", None),
        ("word " * 100 + "and then we", "length"),
        ("word " * 100 + "and then we stop.", None),
        ("word " * 100 + "\nA: 42", None),
        ("word " * 100 + "so \\boxed{4} and then we", None),
        ("42", None),
        ("\\boxed{}. " * 200, "loop"),
        ("1/3 = 0." + "3" * 200, None),
        ("", None),
    ],
)
def test_signs_of_a_cut(completion: str, reason: str | None):
    assert infer_finish_reason(completion, LoopSettings()) == reason
