"""A completion opens its thought once, however a trace or the chat template came to begin it."""

from __future__ import annotations

import pytest

from redi_ray.config.prompts import PromptSettings
from redi_ray.text.prompts import strip_prefix
from redi_ray.text.thoughts import Thought, last_thought, opened_once

SKY = "<|begin_of_thought|>\n\n"


@pytest.mark.parametrize(
    ("text", "prefix", "mended"),
    [
        ("<think>\n1</think>2", "<think>\n", "<think>\n1</think>2"),
        ("1</think>2", "<think>\n", "<think>\n1</think>2"),
        ("\n\n1\n</think>\n\n2", "<think>\n", "<think>\n1\n</think>\n\n2"),
        ("</think>2", "<think>\n", "<think>\n</think>2"),
        ("1</think>2 <think>3</think>4", "<think>\n", "<think>\n1</think>2 <think>3</think>4"),
        ("<think>\n<think>\n1</think>2", "<think>\n", "<think>\n1</think>2"),
        ("<think><think> <think>1</think>2", "<think>", "<think>1</think>2"),
        ("1</think>2", "<think>\nWell, ", "<think>\nWell, 1</think>2"),
        ("1<|end_of_thought|>2", SKY, SKY + "1<|end_of_thought|>2"),
        ("1</think>2", "", "<think>\n1</think>2"),
        ("1+1=2", "<think>\n", "1+1=2"),
        ("1+1=2", "", "1+1=2"),
        ("", "<think>\n", ""),
    ],
)
def test_a_thought_is_opened_once(text: str, prefix: str, mended: str):
    assert opened_once(text, prefix) == mended
    assert opened_once(mended, prefix) == mended


def test_the_thought_that_a_text_ends_in():
    assert last_thought("a<think>\n") == Thought("<think>", True, "<think>\n")
    assert last_thought("<think>\n\n</think>\n\n") == Thought("<think>", False, "<think>\n\n</think>\n\n")
    assert last_thought("a</think>") == Thought("<think>", False, "</think>")
    assert last_thought("a < think >") is None


CLOSED = "<think>\n\n</think>\n\n"


@pytest.mark.parametrize(
    ("completion", "prefix", "begun", "body"),
    [
        ("1</think>2", "<think>\n", "<think>\n", "1</think>2"),  # begins inside its thought
        ("<think>\n<think>\n1</think>2", "<think>\n", "<think>\n", "1</think>2"),
        ("1+1=2", "<think>\n", "<think>\n", None),
        (SKY + "1<|end_of_thought|>", SKY, SKY, "1<|end_of_thought|>"),
        ("1<|end_of_thought|>2", SKY, SKY, "1<|end_of_thought|>2"),
        ("Sure. 1+1=2", "Sure.", "Sure.", " 1+1=2"),
        # no prefix of ours, but the template has opened a thought: it is not opened again
        ("<think>\n1</think>2", "", "<think>\n", "1</think>2"),
        ("<think>1</think>2", "", "<think>\n", "1</think>2"),
        ("1</think>2", "", "<think>\n", "1</think>2"),
        ("cut off in the thou", "", "<think>\n", "cut off in the thou"),
        # or has closed one: nothing thinks behind it
        ("1+1=2", "", CLOSED, "1+1=2"),
        (CLOSED + "1+1=2", "", CLOSED, "1+1=2"),
        ("<think>\n1</think>2", "", CLOSED, None),
        ("1</think>2", "", "</think>", None),
        # or neither
        ("1</think>2", "", "", "<think>\n1</think>2"),
        ("1+1=2", "", "", "1+1=2"),
    ],
)
def test_what_follows_the_prompt(completion: str, prefix: str, begun: str, body: str | None):
    assert strip_prefix(completion, PromptSettings(prefix=prefix), begun) == body
