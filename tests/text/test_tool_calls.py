"""Calls are found where they are closed, models are stopped at them, and traces of turns are whole or named."""

from __future__ import annotations

import pytest

from redi_ray.config.tools import ToolSettings
from redi_ray.text.tool_calls import TurnRules, fault_of_turns, first_call, stops

BOTH = ToolSettings(names=["python", "calculator"]).calls


@pytest.mark.parametrize(
    ("text", "tool", "code", "rest"),
    [
        ("so\n```python\nx = 1\nprint(x)\n```\nand", "python", "x = 1\nprint(x)", "\nand"),
        ("<calculator>6*7</calculator>", "calculator", "6*7", ""),
        ("<calculator>1</calculator><calculator>2</calculator>", "calculator", "1", "<calculator>2</calculator>"),
        ("```python\nprint('<calculator>1</calculator>')\n```", "calculator", "1", "')\n```"),
    ],
)
def test_the_first_call_that_is_closed(text: str, tool: str, code: str, rest: str):
    found = first_call(text, BOTH)
    assert found is not None
    assert (found.tool, found.text, text[found.end :]) == (tool, code, rest)


@pytest.mark.parametrize("text", ["", "```python\nprint(1)", "<calculator>6*7", "</calculator>", "```\nprint(1)\n```"])
def test_what_is_not_closed_or_not_opened_is_no_call(text: str):
    assert first_call(text, BOTH) is None


def test_a_fence_stops_nothing_since_it_opens_too():
    assert stops(BOTH) == ["```output", "</calculator>"]
    assert stops({"calculator": ("[", "]")}) == ["]"]


def turns(*said: str) -> list[dict[str, str]]:
    return [{"role": "tool" if text.startswith(">") else "assistant", "content": text} for text in said]


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        (("call", "> 1", "4"), None),
        (("call", "> NameError", "call", "> 2", "4"), None),  # the model has mended it
        (("call", "> NameError", "4"), "error_in_output"),
        (("call", "> 1"), "ends_with_output"),
        (("4",), "too_few_calls"),
        (("call", "more", "> 1", "4"), "turn_without_call"),
        (("call", "> 1", "> 2", "4"), "turn_without_call"),
        ((*["call", "> 1"] * 4, "4"), "too_many_turns"),
        (("> 1",), "no_turns"),
    ],
)
def test_why_a_trace_of_turns_is_left_out(said: tuple[str, ...], fault: str | None):
    assert fault_of_turns(turns(*said), TurnRules(most_turns=4)) == fault


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"names": []}, "names is empty"),
        ({"names": ["python", "python"]}, "one tool twice"),
        ({"marks": {"calculator": ("[", "]")}}, "calculator, which is not in names"),
        ({"marks": {"python": ("", "]")}}, "must not be empty"),
        ({"max_turns": 1}, "max_turns must be >= 2"),
        ({"output": "it said"}, "must contain {output}"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], told: str):
    with pytest.raises(ValueError, match=told):
        ToolSettings(**settings)  # type: ignore[arg-type]


def test_a_turn_of_nothing_but_opened_calls_is_read_once():
    """A model that is caught in a loop writes such turns, and the engine waits for whoever reads them."""
    assert first_call("<calculator>" * 200_000, BOTH) is None
    found = first_call("[1] [2]", {"calculator": ("[", "]")}, begin=1)
    assert found is not None
    assert found.text == "2"
