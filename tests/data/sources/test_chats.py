"""Chats that stand for one text are read; those that would lose turns are refused with a reason."""

from __future__ import annotations

import json
from typing import Any

import pytest

from redi_ray.data.sources.chats import BadChat, behind_problem, read_completion, read_problem, read_text
from redi_ray.text.dialogue import dialogue_of

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


TOOL = {"role": "tool", "content": "4"}


def test_a_completion_keeps_its_turns() -> None:
    """All after the question; the last answer is its text, and a tool's last word means that it was broken off."""
    assert read_completion("plain").turns is read_completion([USER, ASSISTANT]).turns is None
    late = {"from": "gpt", "value": "b"}
    found = read_completion(
        [NO_SYSTEM, USER, ASSISTANT, {**TOOL, "role": "Observation"}, late, USER, {**ASSISTANT, "content": "c"}]
    )
    assert (found.text, found.broken_off) == ("c", False)
    assert [(turn["role"], turn["content"]) for turn in found.turns] == [
        ("assistant", "a"), ("tool", "4"), ("assistant", "b"), ("user", "q"), ("assistant", "c")
    ]  # fmt: skip
    broken = read_completion([USER, ASSISTANT, TOOL])
    assert (broken.text, broken.broken_off, len(broken.turns)) == ("a", True, 2)
    assert read_completion(7) is None


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([SYSTEM, USER, ASSISTANT, TOOL], "system_turn"),
        ([USER, ASSISTANT, ASSISTANT], "several_turns"),
        ([USER, TOOL, ASSISTANT], "several_turns"),
        ([USER, USER, ASSISTANT], "several_turns"),
        ([USER, ASSISTANT, {"role": "critic", "content": "no"}], "unknown_role"),
        ([USER], "no_such_turn"),
        ([USER, {**ASSISTANT, "tool_calls": [{"name": "add"}]}, TOOL, ASSISTANT], "several_turns"),
    ],
)
def test_a_completion_that_cannot_be_trained_on_is_refused(value: Any, reason: str) -> None:
    with pytest.raises(BadChat) as refused:
        read_completion(value)
    assert refused.value.reason == reason


def test_a_problem_is_the_last_question_with_what_went_before() -> None:
    """An answer behind it is a completion of the same column's; a chat of one question is the text that it was."""
    asked = [USER, ASSISTANT, {**USER, "content": "r"}]
    for value in (asked, [*asked, ASSISTANT], [NO_SYSTEM, *asked], json.dumps(asked)):
        assert dialogue_of(read_problem(value)) == asked
    assert (behind_problem([*asked, ASSISTANT]), behind_problem(asked)) == ([ASSISTANT], [])
    assert (read_problem("plain"), read_problem([USER, ASSISTANT]), read_problem(7)) == ("plain", "q", None)
    assert behind_problem([USER, ASSISTANT, TOOL]) == [USER, ASSISTANT, TOOL]


@pytest.mark.parametrize(
    ("value", "reason", "way_out"),
    [
        ([USER, ASSISTANT, TOOL, USER], "several_turns", "put a tool's word into the text"),
        ([USER, USER], "several_turns", "Make turns in a row one"),
        ([ASSISTANT, USER, ASSISTANT, USER], "several_turns", "learnt from whole belongs to a step `import`"),
        ([SYSTEM, USER, ASSISTANT, USER], "system_turn", "set model.prompt.system"),
        ([ASSISTANT], "no_such_turn", "name another column"),
    ],
)
def test_a_dialogue_that_would_lose_turns_is_refused_with_the_way_out(value: Any, reason: str, way_out: str) -> None:
    with pytest.raises(BadChat, match=way_out) as refused:
        read_problem(value)
    assert refused.value.reason == reason
