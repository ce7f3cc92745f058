"""Code in texts, tests in any form that data sets have, and outputs compared as judges do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from redi_ray.config.code import CodeSettings
from redi_ray.text.code import extract_code
from redi_ray.text.code_outputs import output_fault, same_value
from redi_ray.text.code_tests import AssertCase, BadTests, CallCase, CodeTests, StdinCase, read_tests

LANGUAGES = ["python", "py"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("```python\na\n```", "a"),
        ("```python\na\n```\nand\n```py\nb\n```\nprints\n```\n3\n```", "b"),  # what it prints is no code
        ("```\na\n```\n```json\nb\n```", "a"),
        ("<think>\n```python\na\n```\n</think>", None),
        ("<think>\n```python\na\n```\nand no end", None),
        ("a</think>```Python\nb\n```", "b"),
        ("1. So:\n   ```python\n   if x:\n       y\n   ```", "if x:\n    y"),
        ("````python\na = '''\n```\n'''\n````", "a = '''\n```\n'''"),
        ("~~~py\r\na\r\nb\r\n~~~", "a\nb"),
        ("```python3.11\na\n```", "a"),
        ("```c++\na\n```", None),
        ("```python\n\n```", None),
        ("no block", None),
    ],
)
def test_the_last_block_behind_the_thinking_counts(text: str, code: str | None):
    assert extract_code(text, LANGUAGES) == code


def test_of_a_text_that_was_cut_off_a_block_without_an_end_is_none():
    text = "```python\nwhole\n```\n```python\nhal"
    assert extract_code(text, LANGUAGES) == "hal"
    assert extract_code(text, LANGUAGES, finished=False) == "whole"


FORMS: dict[str, tuple[list[Any], CodeTests]] = {
    "stdin": ([[{"stdin": "1", "stdout": "2"}]], CodeTests([StdinCase("1", "2")])),
    "apps": ([json.dumps({"inputs": ["1\n"], "outputs": ["2\n"]})], CodeTests([StdinCase("1\n", "2\n")])),
    "apps, lines": ([{"inputs": [["1", "2"]], "outputs": [["3"]]}], CodeTests([StdinCase("1\n2", "3")])),
    "taco": (
        [json.dumps({"inputs": [[1, [2]]], "outputs": [[3]], "fn_name": "f"})],
        CodeTests([CallCase([1, [2]], [3], {}, wrapped=True)], "f"),
    ),
    "livecodebench": (
        [json.dumps([{"input": '"a"\n[2]', "output": "3", "testtype": "functional"}]), '{"func_name": "f"}'],
        CodeTests([CallCase(["a", [2]], 3)], "f"),
    ),
    "livecodebench, stdin": (
        [[{"input": "1", "output": "2", "testtype": "stdin"}], '{"func_name": "f"}'],
        CodeTests([StdinCase("1", "2")]),
    ),
    "code_contests": ([{"input": ["1"], "output": ["2"]}], CodeTests([StdinCase("1", "2")])),
    "calls": (
        [[{"call": "f(1, [2], k='x')", "expected": None}]],
        CodeTests([CallCase([1, [2]], None, {"k": "x"})], "f"),
    ),
    "args": ([[{"args": [1], "expected": True, "fn_name": "f"}]], CodeTests([CallCase([1], True)], "f")),
    "args of a table": (
        [[{"args": [1], "kwargs": None, "stdin": None, "expected": 2}], "f"],
        CodeTests([CallCase([1], 2)], "f"),
    ),
    "mbpp": (
        [["assert f(1) == 2", "assert f(2) == 3"], None, ["import math", "import re"]],
        CodeTests([AssertCase("assert f(1) == 2"), AssertCase("assert f(2) == 3")], "", "import math\nimport re"),
    ),
    "humaneval": (
        ["def check(candidate):\n    assert candidate(1) == 2", "f"],
        CodeTests([AssertCase("def check(candidate):\n    assert candidate(1) == 2\n\ncheck(f)")], "f"),
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_tests_are_read_in_any_form(form: str):
    given, wanted = FORMS[form]
    found = read_tests(*given)
    assert found == wanted
    assert CodeTests.of_stored(wanted.stored()) == wanted


@pytest.mark.parametrize("value", [None, "", "[]", "{}", "null", [], {}, float("nan")])
def test_no_tests_are_none(value: object):
    assert read_tests(value) is None


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([7], "a value of type int"),
        (["{x"], "neither JSON"),
        (["eJxLTEoGAAJNASc"], "no assertions"),  # packed tests, as some sets have them
        ([["assert ("]], "no assertions"),
        (["def check(f): assert f() == 1"], "no name of it"),
        ([[{"stdin": "1"}]], "without what is expected"),
        ([[{"stdin": "1", "stdout": None}]], "expected output is null"),
        ([{"inputs": [1], "outputs": []}], "1 inputs and 0 outputs"),
        ([[{"args": [1], "expected": 2}]], "no name of it"),
        ([[{"call": "f(x)", "expected": 1}]], "write it such as"),
        ([[{"stdin": "1", "stdout": "2"}, {"call": "f(1)", "expected": 1}]], "several kinds"),
        ([[{"call": "g(1)", "expected": 1}, {"call": "f(1)", "expected": 1}]], r"several functions \(f, g\)"),
        ([[{"args": [1], "expected": 2}], "not a name"], "no function's name"),
    ],
)
def test_what_is_none_is_told(given: list[Any], told: str):
    with pytest.raises(BadTests, match=told):
        read_tests(*given)


@pytest.mark.parametrize(
    ("said", "expected", "fault"),
    [
        ("1  2\n\n3 \n", "1 2 3", None),
        ("1 2", "1 2 3", "2 words, expected 3"),
        ("1 4 3", "1 2 3", "word 2 is '4', expected '2'"),
        ("0.3333333", "0.33333333", None),
        ("0.3334", "0.33333333", "word 1 is '0.3334', expected '0.33333333'"),
        ("1e6", "1000000.0", None),
        ("5.0", "5", "word 1 is '5.0', expected '5'"),  # a whole number is expected as such
        ("nan", "1.5", "word 1 is 'nan', expected '1.5'"),
        ("Yes", "YES", "word 1 is 'Yes', expected 'YES'"),
        ("", "", None),
    ],
)
def test_what_is_printed_is_compared_word_by_word(said: str, expected: str, fault: str | None):
    assert output_fault(said, expected, CodeSettings()) == fault


def test_lines_and_exact_numbers_where_they_are_asked_for():
    lines = CodeSettings(compare="lines", tolerance=None)
    assert output_fault("a b  \nc\n\n", "a b\nc", lines) is None
    assert output_fault("a  b\nc", "a b\nc", lines) == "line 1 is 'a  b', expected 'a b'"
    assert output_fault("a b c", "a b\nc", lines) is not None
    assert output_fault("0.3333333", "0.33333333", lines) is not None


@pytest.mark.parametrize(
    ("found", "expected", "same"),
    [
        ((1, [2]), [1, [2]], True),
        ([1.0000001], [1], True),
        ([1.1], [1], False),
        ({1: "a"}, {"1": "a"}, True),
        ({"a": 1, "b": 2}, {"a": 1}, False),
        ("1", 1, False),
        ({1, 2}, [1, 2], False),
        (float("nan"), 1.0, False),
        (10**400, 1.5, False),
    ],
)
def test_values_are_compared_as_json_says_them(found: object, expected: object, same: bool):
    assert same_value(found, expected, 1e-6) is same
