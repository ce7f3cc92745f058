"""Turning a source's rows into problems with their traces, or into the reason why a row is none."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from redi_ray.config.data import Columns, OpenR1Source, RowSource
from redi_ray.config.mixture import VerifiedBy
from redi_ray.data.sources.chats import Answer, BadChat, behind_problem, is_chat, joined, read_completion, read_problem
from redi_ray.data.sources.values import BadValue, is_true, read_answer, read_id, read_vote, shown
from redi_ray.schemas import UNFINISHED
from redi_ray.text.code_tests import BadTests, CodeTests, read_tests
from redi_ray.text.finish import finish_reason

OPENR1_VERDICTS = {"llama_verification": "judge", "math_verify_reparsed_answer": "math_verify"}
"""Lists of verdicts in OpenR1's `correctness`, and the votes that they become."""


@dataclass(frozen=True)
class Parsed:
    """A problem and the traces that came with it."""

    problem_id: str
    problem: str
    answer: str | None
    source: str | None
    tests: CodeTests | None = None
    traces: list[ParsedTrace] = field(default_factory=list)
    refused_traces: list[tuple[str, str]] = field(default_factory=list)
    """(reason, detail) of traces in this row that cannot be used."""


@dataclass(frozen=True)
class ParsedTrace:
    """A trace as it came."""

    completion: str
    model: str | None
    votes: dict[str, str | None] | None
    finish_reason: str | None = None
    """Null where the data do not say."""
    turns: list[dict[str, str]] | None = None
    """As in TRACE."""


@dataclass(frozen=True)
class Refused:
    """Why a row is no problem. `by_rule` says that the data's own rule leaves it out, else it is broken."""

    reason: str
    detail: str = ""
    by_rule: bool = False


def parser(source: RowSource, verified_by: VerifiedBy | None = None) -> Callable[[dict[str, Any]], Parsed | Refused]:
    """What turns a row of this source into a problem; verified_by: what each must bring along (`SourceSettings`)."""
    if isinstance(source, OpenR1Source):
        return lambda row: _having(parse_openr1(row, source), verified_by, row, "answer", None)
    columns, labelled = source.columns, source.columns.label is not None

    def parse(row: dict[str, Any]) -> Parsed | Refused:
        found = parse_columns(row, columns, or_neither=labelled or verified_by is not None)
        return _having(found, verified_by, row, columns.answer, columns.tests)

    return parse


def _having(
    parsed: Parsed | Refused, verified_by: VerifiedBy | None, row: dict[str, Any], answer: str, tests: str | None
) -> Parsed | Refused:
    """A problem with what its traces are verified by and nothing else, or why it lacks that. answer, tests: columns."""
    if verified_by is None or isinstance(parsed, Refused):
        return parsed
    if verified_by == "reference" and parsed.answer is None:
        return Refused("no_answer", _no_answer(row, answer, lookup(row, answer)))
    if verified_by == "tests" and parsed.tests is None:
        return Refused("no_tests", _missing(row, str(tests)))
    kept = {"reference": parsed.answer, "tests": parsed.answer, "neither": None}
    return replace(parsed, answer=kept[verified_by], tests=parsed.tests if verified_by == "tests" else None)


def parse_columns(row: dict[str, Any], columns: Columns, *, or_neither: bool | None = None) -> Parsed | Refused:
    """A row by its column map. or_neither: whether a problem may have neither an answer nor tests; by default where its traces
    have labels."""
    found = lookup(row, columns.problem)
    if found is None:
        return Refused("no_problem", _missing(row, columns.problem))
    try:
        problem = read_problem(found)
    except BadChat as error:
        return Refused(error.reason, f"column `{columns.problem}`: {error}")
    if problem is None or not problem.strip():
        return Refused("no_problem", f"column `{columns.problem}` holds {shown(found)}")
    found = lookup(row, columns.answer)
    try:
        answer = read_answer(found)
        tests = read_tests(*(lookup(row, column) for column in columns.of_tests))
    except (BadValue, BadTests) as error:
        reason, column = ("bad_tests", columns.tests) if isinstance(error, BadTests) else ("bad_answer", columns.answer)
        return Refused(reason, f"column `{column}` holds {shown(lookup(row, column))}: {error}")
    allowed = columns.label is not None if or_neither is None else or_neither
    if answer is None and tests is None and not allowed:
        return Refused("no_answer", _no_answer(row, columns.answer, found))
    try:
        traces, refused = _parse_traces(with_thoughts(row, columns), columns)
    except _TraceRefused as error:
        traces, refused = [], [(error.reason, str(error))]
    return Parsed(
        problem_id=read_id(lookup(row, columns.problem_id)) or problem_hash(problem),
        problem=problem,
        answer=answer,
        source=read_id(lookup(row, columns.source)),
        tests=tests,
        traces=traces,
        refused_traces=refused,
    )


def _no_answer(row: dict[str, Any], column: str, found: Any) -> str:
    if found is None:
        return _missing(row, column)
    return f"column `{column}` holds {shown(found)}, which stands for no answer"


def _missing(row: dict[str, Any], column: str) -> str:
    return f"column `{column}` is missing or null; the row has {', '.join(row)}"


def _parse_traces(row: dict[str, Any], columns: Columns) -> tuple[list[ParsedTrace], list[tuple[str, str]]]:
    if columns.completion is None:
        return [], []
    several = isinstance(columns.completion, list)
    completion_columns = _listed(columns.completion)
    voted = {name: _listed(told, len(completion_columns)) for name, told in columns.voted.items()}
    reason_columns = _listed(columns.finish_reason, len(completion_columns))
    row_model = read_id(lookup(row, columns.model))
    traces: list[ParsedTrace] = []
    refused: list[tuple[str, str]] = []
    for number, (completion_column, reason_column) in enumerate(zip(completion_columns, reason_columns, strict=True)):
        completions, reasons = lookup(row, completion_column), lookup(row, reason_column)
        told = {"finish_reason": (reason_column, reasons)}
        told |= {name: (listed[number], lookup(row, listed[number])) for name, listed in voted.items()}
        model = completion_column.split(".")[0] if several else row_model
        if completions is None:
            refused.append(("no_completion", _missing(row, completion_column)))
            continue
        single = not isinstance(completions, list) or is_chat(completions)
        completions = [completions] if single else completions
        if completion_column == columns.problem:
            completions = [behind_problem(value) for value in completions]
        count = len(completions)
        each = {name: (column, [value] if single else _each(value, count)) for name, (column, value) in told.items()}
        for what, (column, values) in each.items():
            if len(values) != count:
                detail = f"{len(values)} in column `{column}` for {count} in `{completion_column}`"
                refused += [(f"{what}_length", f"{detail}; write one {what} for each completion")] * count
                break
        else:
            found, bad = _traces(completions, each, completion_column, model, columns.tool_blocks)
            traces, refused = traces + found, refused + bad
    return traces, refused


def _traces(
    completions: list[Any], each: dict[str, tuple[Any, list[Any]]], column: str, model: str | None, tool_blocks: bool
) -> tuple[list[ParsedTrace], list[tuple[str, str]]]:
    """The traces of one column of one row, and what of them cannot be used.

    each: `finish_reason` and verifiers -> (column, what it says of each completion).
    """
    traces, refused = [], []
    (_, reasons), voted = each["finish_reason"], {name: told for name, told in each.items() if name != "finish_reason"}
    for index, (completion, reason) in enumerate(zip(completions, reasons, strict=True)):
        try:
            answer = _completion(completion, column, tool_blocks)
            votes = {
                name: _vote(values[index], f"column `{where}`", "bad_label" if name == "label" else "bad_vote")
                for name, (where, values) in voted.items()
            }
        except _TraceRefused as error:
            refused.append((error.reason, str(error)))
            continue
        ended = UNFINISHED if answer.broken_off and reason is None else finish_reason(reason)
        traces.append(ParsedTrace(answer.text, model, votes or None, ended, answer.turns))
    return traces, refused


def _listed(columns: str | list[str] | None, count: int = 1) -> list[Any]:
    return columns if isinstance(columns, list) else [columns] * count


def _each(values: Any, completions: int) -> list[Any]:
    """A value for each completion. One for several says nothing of any of them, so it stays one; null says nothing at all."""
    if values is None:
        return [None] * completions
    return values if isinstance(values, list) else [values]


class _TraceRefused(ValueError):
    """Why a trace cannot be used: `reason` in a word, and the detail."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def _completion(value: Any, where: str, tool_blocks: bool) -> Answer:
    """A completion, of one turn or more. Raises _TraceRefused."""
    try:
        answer = read_completion(value, tool_blocks=tool_blocks)
    except BadChat as error:
        raise _TraceRefused(error.reason, f"`{where}`: {error}") from error
    if answer is None or not answer.text.strip():
        raise _TraceRefused("no_completion", f"`{where}` holds {shown(value)}")
    return answer


def _vote(value: Any, where: str, reason: str) -> str | None:
    """A shipped label as a verdict's name; null stays a missing vote. Raises _TraceRefused."""
    try:
        return read_vote(value)
    except BadValue as error:
        raise _TraceRefused(reason, f"{where} holds {shown(value)}, {error}") from error


def parse_openr1(row: dict[str, Any], source: OpenR1Source) -> Parsed | Refused:
    """A row of OpenR1-Math-Raw by the paper's rule (arXiv 2505.24850, its data script; METHOD in short).

    The Llama verdict becomes the `judge` vote, Math-Verify's the `math_verify` vote; a missing verdict stays missing.
    """
    if left_out := _openr1_left_out(row, source):
        return left_out
    problem, generations = row["problem"], row["generations"]
    verdicts = [lookup(row, f"correctness.{name}") or [] for name in OPENR1_VERDICTS]
    if not all(isinstance(listed, list) for listed in verdicts):
        return Refused("bad_vote", f"verdicts in `correctness` are no lists: {', '.join(map(shown, verdicts))}")
    lengths = [len(listed) for listed in verdicts]
    if set(lengths) != {len(generations)}:
        told = f"{lengths[0]} and {lengths[1]} verdicts for {len(generations)} generations"
        return Refused("verdict_length", told, by_rule=True)
    try:
        answer = read_answer(row.get("answer"))
    except BadValue as error:
        return Refused("bad_answer", f"`answer` holds {shown(row.get('answer'))}: {error}")
    reasons = row.get("finish_reasons")
    if not isinstance(reasons, list) or len(reasons) != len(generations):
        reasons = [None] * len(generations)  # most rows have none
    traces, refused = [], []
    for completion, reason, *votes_of_it in zip(generations, reasons, *verdicts, strict=True):
        try:
            answer_of = _completion(completion, "generations", tool_blocks=False)
            votes = [
                _vote(verdict, f"`correctness.{name}`", "bad_vote")
                for name, verdict in zip(OPENR1_VERDICTS, votes_of_it, strict=True)
            ]
        except _TraceRefused as error:
            refused.append((error.reason, str(error)))
            continue
        by = dict(zip(OPENR1_VERDICTS.values(), votes, strict=True))
        traces.append(ParsedTrace(answer_of.text, "DeepSeek-R1", by, finish_reason(reason), answer_of.turns))
    return Parsed(
        problem_id=read_id(row.get("uuid")) or problem_hash(problem),
        problem=problem,
        answer=answer,
        source=read_id(row.get("source")),
        traces=traces,
        refused_traces=refused,
    )


def _openr1_left_out(row: dict[str, Any], source: OpenR1Source) -> Refused | None:
    """Why the rule leaves a row out; None if its problem and generations are there."""
    if source.require_valid and not is_true(row.get("problem_is_valid")):
        return Refused("problem_not_valid", str(row.get("problem_is_valid")), by_rule=True)
    if row.get("source") in source.drop_sources:
        return Refused("source_left_out", str(row.get("source")), by_rule=True)
    if not isinstance(row.get("problem"), str) or not row["problem"].strip():
        return Refused("no_problem", by_rule=True)
    if not isinstance(row.get("generations"), list) or not row["generations"]:
        return Refused("no_generations", by_rule=True)
    return None


def lookup(row: dict[str, Any], path: str | None) -> Any:
    """The value at a dotted path, arrays as lists, or None. A column whose name holds the dots wins over nesting; a number counts
    the items of a list from 0, so `generations.0` is the first."""
    if path is None:
        return None
    value: Any = row
    for key in [path] if path in row else path.split("."):
        if isinstance(value, list | np.ndarray) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        elif isinstance(value, dict) and key in value:
            value = value[key]
        else:
            return None
    return value.tolist() if isinstance(value, np.ndarray) else value


def problem_hash(problem: str) -> str:
    return hashlib.sha256(problem.encode()).hexdigest()[:16]


def with_thoughts(row: dict[str, Any], columns: Columns) -> dict[str, Any]:
    """The row with each trace's thought in front of it, where `columns.reasoning` has them apart.

    Raises _TraceRefused where there are not as many thoughts as traces.
    """
    if columns.reasoning is None:
        return row
    found = {}
    for thought_column, column in zip(_listed(columns.reasoning), _listed(columns.completion), strict=False):
        thoughts, texts = lookup(row, thought_column), lookup(row, column)
        if isinstance(texts, list) and not is_chat(texts) and thoughts is not None:
            have = len(thoughts) if isinstance(thoughts, list) else 1
            if have != len(texts) or not isinstance(thoughts, list):
                told = (
                    f"{have} in column `{thought_column}` for {len(texts)} in `{column}`; write one for each completion"
                )
                raise _TraceRefused("reasoning_length", told)
            found[column] = [joined(thought, text) for thought, text in zip(thoughts, texts, strict=True)]
        else:
            found[column] = joined(thoughts, texts)
    return {**row, **{column: value for column, value in found.items() if column is not None and value is not None}}
