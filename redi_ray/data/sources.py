"""Turning a source's rows into problems with their traces, or into the reason why a row is none."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from redi_ray.config.data import Columns, FilesSource, HubSource, OpenR1Source
from redi_ray.schemas import FINISH_REASONS, Verdict


@dataclass(frozen=True)
class Parsed:
    """A problem and the traces that came with it."""

    problem_id: str
    problem: str
    answer: str | None
    source: str | None
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


@dataclass(frozen=True)
class Refused:
    """Why a row is no problem. `by_rule` says that the data's own rule leaves it out, else it is broken."""

    reason: str
    detail: str = ""
    by_rule: bool = False


def parser(source: FilesSource | HubSource | OpenR1Source) -> Callable[[dict[str, Any]], Parsed | Refused]:
    """What turns a row of this source into a problem."""
    if isinstance(source, OpenR1Source):
        return lambda row: parse_openr1(row, source)
    return lambda row: parse_columns(row, source.columns)


def parse_columns(row: dict[str, Any], columns: Columns) -> Parsed | Refused:
    """A row by its column map."""
    problem = lookup(row, columns.problem)
    if problem is None:
        return Refused("no_problem", f"column `{columns.problem}` is missing or null; the row has {sorted(row)}")
    if not isinstance(problem, str) or not problem.strip():
        return Refused("no_problem", f"column `{columns.problem}` holds {type(problem).__name__} {str(problem)[:50]!r}")
    answer = text_or_none(lookup(row, columns.answer))
    if answer is None and columns.label is None:
        return Refused("no_answer", f"column `{columns.answer}` is missing or null; the row has {sorted(row)}")
    traces, refused = _parse_traces(row, columns)
    return Parsed(
        problem_id=text_or_none(lookup(row, columns.problem_id)) or problem_hash(problem),
        problem=problem,
        answer=answer,
        source=text_or_none(lookup(row, columns.source)),
        traces=traces,
        refused_traces=refused,
    )


def _parse_traces(row: dict[str, Any], columns: Columns) -> tuple[list[ParsedTrace], list[tuple[str, str]]]:
    if columns.completion is None:
        return [], []
    several = isinstance(columns.completion, list)
    completion_columns = _listed(columns.completion)
    label_columns = _listed(columns.label, len(completion_columns))
    reason_columns = _listed(columns.finish_reason, len(completion_columns))
    row_model = text_or_none(lookup(row, columns.model))
    traces, refused = [], []
    for completion_column, label_column, reason_column in zip(
        completion_columns, label_columns, reason_columns, strict=True
    ):
        completions, labels = lookup(row, completion_column), lookup(row, label_column)
        reasons = lookup(row, reason_column)
        model = completion_column.split(".")[0] if several else row_model
        if not isinstance(completions, list):
            completions, labels, reasons = [completions], [labels], [reasons]
        labels = labels if isinstance(labels, list) else [None] * len(completions)
        if len(labels) != len(completions):
            refused += [("label_length", f"{len(labels)} labels for {len(completions)} completions")] * len(completions)
            continue
        if not isinstance(reasons, list) or len(reasons) != len(completions):
            reasons = [None] * len(completions)
        for completion, label, reason in zip(completions, labels, reasons, strict=True):
            if not isinstance(completion, str) or not completion.strip():
                refused.append(("no_completion", f"column `{completion_column}` holds {str(completion)[:50]!r}"))
                continue
            votes = {"label": vote(label)} if columns.label is not None else None
            traces.append(ParsedTrace(completion, model, votes, reason if reason in FINISH_REASONS else None))
    return traces, refused


def _listed(columns: str | list[str] | None, count: int = 1) -> list[Any]:
    return columns if isinstance(columns, list) else [columns] * count


def parse_openr1(row: dict[str, Any], source: OpenR1Source) -> Parsed | Refused:
    """A row of OpenR1-Math-Raw by the paper's rule (arXiv 2505.24850, its data script; METHOD in short).

    The Llama verdict becomes the `judge` vote, Math-Verify's the `math_verify` vote; a missing verdict stays missing.
    """
    if source.require_valid and str(row.get("problem_is_valid", "")).strip().lower() != "yes":
        return Refused("problem_not_valid", str(row.get("problem_is_valid")), by_rule=True)
    if row.get("source") in source.drop_sources:
        return Refused("source_left_out", str(row.get("source")), by_rule=True)
    problem, generations = row.get("problem"), row.get("generations")
    if not isinstance(problem, str) or not problem.strip():
        return Refused("no_problem", by_rule=True)
    if not isinstance(generations, list) or not generations:
        return Refused("no_generations", by_rule=True)
    correctness = row.get("correctness") or {}
    judge, math_verify = correctness.get("llama_verification"), correctness.get("math_verify_reparsed_answer")
    judge, math_verify = judge or [], math_verify or []
    if not len(judge) == len(math_verify) == len(generations):
        told = f"{len(judge)} and {len(math_verify)} verdicts for {len(generations)} generations"
        return Refused("verdict_length", told, by_rule=True)
    traces, refused = [], []
    for completion, llama, verified in zip(generations, judge, math_verify, strict=True):
        if not isinstance(completion, str) or not completion.strip():
            refused.append(("no_completion", f"a generation holds {completion!r}"))
            continue
        traces.append(ParsedTrace(completion, "DeepSeek-R1", {"judge": vote(llama), "math_verify": vote(verified)}))
    return Parsed(
        problem_id=text_or_none(row.get("uuid")) or problem_hash(problem),
        problem=problem,
        answer=text_or_none(row.get("answer")),
        source=text_or_none(row.get("source")),
        traces=traces,
        refused_traces=refused,
    )


def lookup(row: dict[str, Any], path: str | None) -> Any:
    """The value at a dotted path, or None. A column whose name holds the dots wins over nesting."""
    if path is None or path in row:
        return None if path is None else row[path]
    value: Any = row
    for key in path.split("."):
        if not isinstance(value, dict) or key not in value:
            return None
        value = value[key]
    return value


def text_or_none(value: Any) -> str | None:
    """Text of a string or a number (142.0 -> "142"); None for null, empty and everything else."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, int | float):
        return str(value)
    return value if isinstance(value, str) and value.strip() else None


def vote(label: Any) -> str | None:
    """A shipped boolean as a verdict; null stays a missing vote."""
    return None if label is None else str(Verdict.CORRECT if bool(label) else Verdict.WRONG)


def problem_hash(problem: str) -> str:
    return hashlib.sha256(problem.encode()).hexdigest()[:16]
