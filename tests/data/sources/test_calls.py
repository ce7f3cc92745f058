"""Calls of tools that a chat keeps beside its text are written into it whole, in their order, or the row is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from redi_ray.config.data import FileSet
from redi_ray.config.import_parts import WrittenCalls
from redi_ray.config.imports import ImportSettings
from redi_ray.config.prompts import PromptSettings
from redi_ray.data.sources.import_answers import LeftOut
from redi_ray.data.sources.import_rows import RowReader
from redi_ray.data.sources.shapes import layout_of

WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def call(name: str, **arguments: Any) -> dict[str, Any]:
    """As OpenAI has it: arguments are a text of JSON."""
    return {"id": "1", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


def row(*answers: dict[str, Any], **columns: Any) -> dict[str, Any]:
    asked = {"role": "user", "content": "Rain in Oslo or Rome?"}
    return {"messages": [asked, *answers, {"role": "assistant", "content": "In Oslo."}], **columns}


TWO = row(
    {
        "role": "assistant",
        "tool_calls": [call("weather", city="Oslo"), call("weather", city="Rome")],
    },  # no content at all
    {"role": "tool", "tool_call_id": "1", "content": "rain"},
    {"role": "tool", "tool_call_id": "2", "content": "sun"},
    tools=[WEATHER],
)


def read(value: dict[str, Any], calls: WrittenCalls | None) -> Any:
    settings = ImportSettings(source=FileSet(), calls=calls)
    return RowReader(layout_of(settings, [value]), settings, PromptSettings(prefix=""))(value)


def test_calls_and_tools_are_in_the_text() -> None:
    found = read(TWO, WrittenCalls())
    system, asked = found.prompt
    assert system["role"] == "system"
    assert json.loads(system["content"].splitlines()[-1]) == WEATHER["function"]
    assert asked["role"] == "user"
    first, *others = found.members[0].turns
    assert first == {
        "role": "assistant",
        "content": '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>',
    }
    assert [(turn["role"], turn["content"]) for turn in others] == [
        ("tool", "rain"),
        ("tool", "sun"),
        ("assistant", "In Oslo."),
    ]


def test_forms_texts_beside_calls_and_older_words() -> None:
    said = {
        "role": "assistant",
        "content": "Let me look.",
        "function_call": {"name": "weather", "arguments": "not JSON"},
    }
    system = {"role": "system", "content": "Be brief."}
    value = row(said, {"role": "function", "name": "weather", "content": "rain"}, tools=json.dumps([WEATHER]))
    value["messages"].insert(0, system)
    found = read(value, WrittenCalls(form="CALL {call} END", told="You have:\n{tools}"))
    assert found.members[0].turns[0]["content"] == 'Let me look.\nCALL {"name": "weather", "arguments": "not JSON"} END'
    assert found.prompt[0]["content"].startswith("Be brief.\n\nYou have:\n{")
    assert read(value, WrittenCalls(told=None)).prompt[0] == system


@pytest.mark.parametrize(
    ("value", "calls", "reason", "told"),
    [
        (TWO, None, "several_turns", r"with `calls: \{\}`"),
        (row({"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}), WrittenCalls(), "bad_calls", "no name"),
        ({**TWO, "tools": "all of them"}, WrittenCalls(), "bad_tools", "column `tools` is no list"),
    ],
)  # fmt: skip
def test_what_would_be_lost_is_refused(
    value: dict[str, Any], calls: WrittenCalls | None, reason: str, told: str
) -> None:
    with pytest.raises(LeftOut, match=told) as refused:
        read(value, calls)
    assert refused.value.reason == reason


@pytest.mark.parametrize("wrong", [{"form": "no place"}, {"told": "no place"}])
def test_forms_without_a_place_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"must hold {(call|tools)} once"):
        WrittenCalls(**wrong)
