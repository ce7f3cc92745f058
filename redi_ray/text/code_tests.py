"""Tests of a programming problem: what data sets write, read into one form, and that form as text.

A case is an input with the output that is expected of a program, a call of a function with the value that is expected, or
assertions. All cases of a problem are of one kind.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

NAME = re.compile(r"[A-Za-z_]\w*")
INPUT, OUTPUT = ("stdin", "input", "inputs"), ("stdout", "output", "outputs", "expected_output", "expected")
"""What data call the two, the first that is there counts."""
CHECK = re.compile(r"^(?:async +)?def +check *\(", re.MULTILINE)
CHECKED = re.compile(r"^check *\(", re.MULTILINE)
HOW = (
    "write a list of {stdin, stdout}, or of {args, expected} with `fn_name`, {inputs, outputs} with lists, or assertions; as "
    "they stand or as JSON"
)


class BadTests(ValueError):
    """Tests of no known form; the message says how they should be written."""


@dataclass(frozen=True)
class StdinCase:
    """A program's input, and what it should print."""

    stdin: str
    stdout: str


@dataclass(frozen=True)
class CallCase:
    """A call, and what it should give."""

    args: list[Any]
    expected: Any
    keywords: dict[str, Any] = field(default_factory=dict)
    wrapped: bool = False
    """Whether a list of one may also stand for the value in it, as in APPS."""


@dataclass(frozen=True)
class AssertCase:
    """Assertions that should hold."""

    code: str


Case = StdinCase | CallCase | AssertCase
_KINDS: tuple[type[Any], ...] = (StdinCase, CallCase, AssertCase)


@dataclass(frozen=True)
class CodeTests:
    """The tests of a problem, in order."""

    cases: Sequence[Case]
    name: str = ""
    """The function that they call; empty for programs, and where assertions say it."""
    setup: str = ""
    """Code that runs before assertions."""

    def stored(self) -> str:
        """As a table holds them."""
        return json.dumps({"name": self.name, "setup": self.setup, "cases": [asdict(case) for case in self.cases]})

    @classmethod
    def of_stored(cls, text: str) -> CodeTests:
        """The opposite of `stored`."""
        told = json.loads(text)
        kind = next(kind for kind in _KINDS if told["cases"][0].keys() == kind.__dataclass_fields__.keys())
        return cls([kind(**case) for case in told["cases"]], told["name"], told["setup"])


def read_tests(value: Any, entry_point: Any = None, setup: Any = None) -> CodeTests | None:
    """A column's tests in any form that data sets have; None where there are none.

    value: a list of cases, APPS' object of `inputs` and `outputs`, assertions as text or in a list, or JSON of one of these.
    entry_point: the function that they call, where they do not say it. setup: code that assertions need. Raises BadTests.
    """
    value = _unpacked(value)
    if value is None or len(value) == 0:
        return None
    name, before = _name(entry_point), _code(setup)
    if isinstance(value, str):
        return CodeTests([_assertion(value, name, before)], name, before)
    if isinstance(value, Mapping):
        name = _name(next((value[key] for key in ("fn_name", "func_name", "entry_point") if value.get(key)), name))
        rows = _rows(value)
    else:
        rows = list(value)
    if not rows:
        return None
    if all(isinstance(row, str) for row in rows):
        return CodeTests([_assertion(row, name, before) for row in rows], name, before)
    named = [_case(row, name) for row in rows]
    cases, names = [case for case, _ in named], {one for _, one in named if one}
    if len({type(case) for case in cases}) > 1 or len(names) > 1:
        raise BadTests(f"cases of several kinds, or of several functions ({', '.join(sorted(names))}); {HOW}")
    return CodeTests(cases, next(iter(names), ""))


def _unpacked(value: Any) -> Any:
    """JSON as what it says; other text as it is. Raises BadTests for what is no text, list or object."""
    if isinstance(value, str):
        text = value.strip()
        if text[:1] not in ("{", "[") or text in ("{}", "[]"):
            return "" if text.lower() in ("null", "none", "nan", "{}", "[]") else value
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            if _is_code(text):
                return value
            raise BadTests(f"neither JSON ({error}) nor Python; {HOW}") from None
    if value is None or isinstance(value, list | Mapping):
        return value
    if isinstance(value, float) and math.isnan(value):
        return None
    raise BadTests(f"a value of type {type(value).__name__}; {HOW}")


def _is_code(text: str) -> bool:
    try:
        return bool(ast.parse(text).body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _rows(value: Mapping[str, Any]) -> list[Any]:
    """The cases of one object: its inputs beside its outputs, or itself."""
    inputs, outputs = _first(value, INPUT), _first(value, OUTPUT)
    if "test_list" in value:
        return list(value["test_list"] or ())
    if not isinstance(inputs, list) or not isinstance(outputs, list):
        return [value]
    if len(inputs) != len(outputs):
        raise BadTests(f"{len(inputs)} inputs and {len(outputs)} outputs")
    return [{"input": given, "output": wanted, "wrapped": True} for given, wanted in zip(inputs, outputs, strict=True)]


def _case(row: Any, name: str) -> tuple[Case, str]:
    """A case, and the function that it calls; empty for a program."""
    if not isinstance(row, Mapping):
        raise BadTests(f"a case of type {type(row).__name__}; {HOW}")
    wanted, there = _first(row, OUTPUT), {key for key in OUTPUT if key in row}
    row = {key: value for key, value in row.items() if value is not None}  # a table gives each row the fields of all
    if not there:
        raise BadTests(f"a case without what is expected (it has {', '.join(map(str, row)) or 'nothing'}); {HOW}")
    if "args" in row or "kwargs" in row:
        name = _required(row.get("fn_name") or name)
        args = row.get("args")
        args = args if isinstance(args, list) else [] if args is None else [args]
        return CallCase(args, wanted, dict(row.get("kwargs") or {})), name
    if "call" in row:
        return _written_call(str(row["call"]), wanted)
    given = _first(row, INPUT)
    if name and row.get("testtype") != "stdin":
        return CallCase(_arguments(given), _json(wanted), {}, bool(row.get("wrapped"))), name
    if row.get("testtype") == "functional":
        _required(name)
    if wanted is None:
        raise BadTests("a case of a program whose expected output is null: write what it prints, '' for nothing")
    return StdinCase(_text(given), _text(wanted)), ""


def _required(name: str) -> str:
    if not name:
        raise BadTests("cases that call a function, and no name of it: put it into `fn_name`, or name its column")
    return _name(name)


def _written_call(text: str, wanted: Any) -> tuple[CallCase, str]:
    """Of a call as Python writes it, all of whose arguments are literals."""
    try:
        node = ast.parse(text.strip(), mode="eval").body
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            raise ValueError("no call of a function by its name")
        args = [ast.literal_eval(one) for one in node.args]
        keywords = {str(one.arg): ast.literal_eval(one.value) for one in node.keywords}
        json.dumps([args, keywords])
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise BadTests(f"call {text[:80]!r}: {error}; write it such as f(1, [2]), or use args") from None
    return CallCase(args, wanted, keywords), node.func.id


def _arguments(given: Any) -> list[Any]:
    """Arguments: a list of them, or JSON, a line each."""
    if isinstance(given, str):
        return [_json(line) for line in given.split("\n") if line.strip()]
    return given if isinstance(given, list) else [given]


def _json(value: Any) -> Any:
    """JSON as what it says; other text stays text."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return value


def _text(value: Any) -> str:
    """Text, or its lines."""
    if isinstance(value, list) and all(isinstance(line, str | int | float) for line in value):
        return "\n".join(str(line).removesuffix("\n") for line in value)
    if isinstance(value, str | int | float) or value is None:
        return "" if value is None else str(value)
    raise BadTests(
        f"a {type(value).__name__} as a program's input or output: write text, or name the function (`fn_name`)"
    )


def _first(value: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((value[name] for name in names if value.get(name) is not None), None)


def _name(value: Any) -> str:
    """Of a function; one that stands in an object, or in its JSON, as in LiveCodeBench's metadata."""
    value = _json(value) if isinstance(value, str) and value.strip().startswith("{") else value
    if isinstance(value, Mapping):
        value = next((value[key] for key in ("func_name", "fn_name", "entry_point") if value.get(key)), None)
    if value is None or value == "":
        return ""
    if not isinstance(value, str) or NAME.fullmatch(value.strip()) is None:
        raise BadTests(f"{value!r} is no function's name")
    return value.strip()


def _code(value: Any) -> str:
    lines = value if isinstance(value, list) else [value or ""]
    text = "\n".join(str(line) for line in lines)
    if text.strip() and not _is_code(text) and not all(line.strip().startswith("#") for line in text.split("\n")):
        raise BadTests("the code that assertions need is no Python")
    return text


def _assertion(code: str, name: str, setup: str) -> AssertCase:
    if not _is_code(code) or not any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(code))):
        raise BadTests(f"no assertions in Python: {code.strip()[:80]!r}; {HOW}")
    if CHECK.search(code) and not CHECKED.search(code):
        code = f"{code}\n\ncheck({_required(name)})"
    return AssertCase(code)
