"""Chats that stand for one text are read; those that would lose turns are refused with a reason."""

from __future__ import annotations

import json
from typing import Any

import pytest

from redi_ray.data.sources.chats import BadChat, read_text

USER, ASSISTANT = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
SYSTEM, NO_SYSTEM = {"role": "system", "content": "s"}, {"role": "system", "content": " "}


@pytest.mark.parametrize(
    ("role", "value", "text"),
    [
        ("user", "plain", "plain"),
        ("user", [USER], "q"),
        ("user", USER, "q"),
        ("user", json.dumps([USER]), "q"),
        ("user", [NO_SYSTEM, USER], "q"),
        ("user", [USER, ASSISTANT], "q"),
        ("user", [{"role": "user", "content": [{"type": "text", "text": "q"}]}], "q"),
        ("user", [{**USER, "from": None, "value": None}], "q"),  # a Parquet struct has all fields
        ("assistant", [USER, ASSISTANT], "a"),
        ("assistant", [ASSISTANT], "a"),
        ("assistant", [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "a"),
        ("assistant", [{**ASSISTANT, "reasoning_content": "r"}], "<think>\nr\n</think>\n\na"),
        ("assistant", '{"answer": 5}', '{"answer": 5}'),
        ("assistant", "[{not JSON", "[{not JSON"),
        ("user", ["q"], None),
        ("user", [], None),
        ("user", 7, None),
    ],
)  # fmt: skip
def test_one_turn_is_a_text(role: Any, value: Any, text: str | None):
    assert read_text(value, role) == text


@pytest.mark.parametrize(
    ("role", "value", "reason"),
    [
        ("user", [SYSTEM, USER], "system_turn"),
        ("user", [USER, ASSISTANT, USER], "several_turns"),
        ("assistant", [USER, ASSISTANT, USER, ASSISTANT], "several_turns"),
        ("assistant", [ASSISTANT, ASSISTANT], "several_turns"),
        ("assistant", [USER, {"role": "tool", "content": "4"}, ASSISTANT], "several_turns"),
        ("assistant", [USER, {**ASSISTANT, "tool_calls": [{"name": "add"}]}], "several_turns"),
        ("user", [ASSISTANT], "no_such_turn"),
        ("user", [{"role": "user", "content": [{"type": "image", "url": "x.png"}]}], "no_text"),
    ],
)  # fmt: skip
def test_turns_are_never_lost(role: Any, value: Any, reason: str):
    with pytest.raises(BadChat) as refused:
        read_text(value, role)
    assert refused.value.reason == reason
