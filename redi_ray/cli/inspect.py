"""`redi-ray inspect`: traces on the terminal, with everything that led to their verdict, or the rows of any step."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from redi_ray.cli import marked
from redi_ray.pipeline.standard import step_named
from redi_ray.report.beside import COLUMN, COLUMNS, beside, is_spans, read_beside, samples_of
from redi_ray.report.browse import (
    BrowseError,
    TraceFilter,
    details,
    find_traces,
    graph_of_run,
    read_as,
    read_traces,
    run_uri_of,
)
from redi_ray.report.marks import shown_turns, visible, without_middles
from redi_ray.report.token_values import drawn
from redi_ray.report.trained import Trained, trained_groups
from redi_ray.schemas import turns_of
from redi_ray.text.dialogue import spoken

TAIL_CHARS = 1500
"""Characters of a text shown, from its end, where all of it is not asked for."""
IDS = ("trace_id", "pair_id", "example_id", "group_id", "problem_id")
"""What a row is called by, the narrowest first."""
MESSAGES = ("prompt", "messages")
"""Columns of chats."""
SIDES = ("chosen", "rejected")
"""Columns of a pair's."""
SAID = ("value", "spans")
"""Columns of what a step says of samples, in a folder of its own."""
STYLES = {"correct": "bold green", "wrong": "bold red"}
Show = Callable[[Any, Console, bool], None]
"""Prints a row, all of its texts or their ends."""


def inspect_traces(
    target: str,
    wanted: TraceFilter,
    *,
    step: str | None = None,
    columns: Sequence[str] = (),
    limit: int,
    whole: bool,
    as_json: bool,
    console: Console | None = None,
) -> int:
    """Print the first `limit` matches, paged on a terminal; how many there were.

    columns: steps whose columns are shown in the traces. Of a training the tokens are shown that it has learnt from.
    Raises BrowseError (see `redi_ray.report.browse`).
    """
    console = console or Console()
    if step is not None and (groups := _trained(target, step, limit)) is not None:
        if as_json:
            raise BrowseError(
                f"step {step} gives a model; the rows it has learnt from are those of the step it is `on`"
            )
        return _paged(groups, console, whole, print_trained)
    rows = _rows(target, step, columns, wanted, limit)
    if as_json:
        return _print_json(rows, console)
    if step is not None and (told := read_as(target, step)):
        console.print(Text(visible(f"{step}: {told}"), "bold"), soft_wrap=True)
    return _paged(rows, console, whole, print_trace)


def _paged(rows: Iterable[Any], console: Console, whole: bool, show: Show) -> int:
    if not console.is_terminal:
        return _print_all(rows, console, whole, show)
    os.environ.setdefault("LESS", "FRX")  # as git does: no pager for a short text, colours, and the text stays
    with console.pager(styles=True):
        return _print_all(rows, console, whole, show)


def _trained(target: str, step: str, limit: int) -> list[list[Trained]] | None:
    """What a training has learnt from; None where the step is none."""
    run = run_uri_of(target)
    graph = graph_of_run(run)
    found = graph[step_named(graph, step)]
    return trained_groups(run, found, limit) if found.kind == "train" else None


def _rows(
    target: str, step: str | None, columns: Sequence[str], wanted: TraceFilter, limit: int
) -> Iterable[dict[str, Any]]:
    """The rows to show. Those of a column are its samples, with what it says of them."""
    run = run_uri_of(target)
    graph = graph_of_run(run)
    named = None if step is None else step_named(graph, step)
    columns = [step_named(graph, column) for column in columns]
    if named is not None and graph[named].gives == COLUMN:
        find_traces(target, named)  # says so where it is not finished
        columns, named = [named, *columns], samples_of(run, graph, named)
    if not columns:
        return read_traces(find_traces(target, step), wanted, limit)
    samples = named or samples_of(run, graph, columns[0])
    return drawn(read_beside(beside(run, graph, samples, columns), wanted, limit), run)


def _print_json(rows: Iterable[dict[str, Any]], console: Console) -> int:
    count = 0
    for row in rows:
        console.file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
        count += 1
    return count


def _print_all(rows: Iterable[Any], console: Console, whole: bool, show: Show) -> int:
    count = 0
    for row in rows:
        show(row, console, whole)
        count += 1
    return count


def print_trace(row: dict[str, Any], console: Console, whole: bool = False) -> None:
    """One row: ids and verdict, where it comes from, votes, problem, answers, messages; of long texts the end, or all of it."""
    console.print(Rule(_heading(row), align="left"))
    for name, value in _facts(row):
        _tell(name, value, console)
    for name in (name for name in MESSAGES if row.get(name)):
        _tell(name, "", console)
        _print_chat(row[name], None, console, whole)
    if all(row.get(name) for name in SIDES):
        sides = [{"turns": row[name], "side": side} for name, side in zip(SIDES, (1, -1), strict=True)]
        _print_members(sides, console, whole)
    if row.get("members"):
        _print_members(row["members"], console, whole)
    for name in (name for name in SAID if name in row):
        _tell(name, row[name], console)
    _print_columns(row, console, whole)


def _heading(row: Mapping[str, Any]) -> Text:
    heading = Text(visible(next((row[name] for name in IDS if row.get(name)), "?")))
    if "completion" in row or "verdict" in row:
        verdict = str(row.get("verdict") or "no verdict")
        heading.append(f"  {verdict}", STYLES.get(verdict, "bold yellow"))
    return heading


def _facts(row: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What is told in a line each."""
    yield from details(row).items()
    if row.get("problem"):
        yield "problem", spoken(row["problem"])
    for name, column in (("gold", "answer"), ("extracted", "extracted_answer")):
        if column in row:
            yield name, "-" if row[column] is None else row[column]


def _tell(name: str, value: Any, console: Console) -> None:
    console.print(Text(f"{name}: ", "bold").append(visible(value), "not bold"), soft_wrap=True)


def _print_columns(row: Mapping[str, Any], console: Console, whole: bool) -> None:
    """What steps say of a trace; where they mark parts of it the trace stands there, else behind them."""
    columns = row.get(COLUMNS, {})
    for name, said in columns.items():
        marks = is_spans(said)
        _tell(name, "" if marks else "-" if said is None else said, console)
        if marks:
            _print_chat(turns_of(row), said, console, whole)
    if not any(map(is_spans, columns.values())):
        _print_answer(row, console, whole)


def _print_answer(row: Mapping[str, Any], console: Console, whole: bool) -> None:
    """What a trace says."""
    completion = row.get("completion")
    if row.get("turns"):
        _print_chat(row["turns"], None, console, whole)
    elif completion is not None:
        shown = completion if whole else completion[-TAIL_CHARS:]
        cut = (
            f"the last {len(shown):,} of {len(completion):,} characters; --whole shows all"
            if shown != completion
            else ""
        )
        console.print(Text("completion: ", "bold").append(cut, "not bold"), soft_wrap=True)
        console.print(Text(visible(shown)), soft_wrap=True)


def _print_chat(
    turns: Sequence[Mapping[str, str]], spans: Sequence[Mapping[str, Any]] | None, console: Console, whole: bool
) -> None:
    marked.print_turns(shown_turns(turns, spans, 1, None if whole else TAIL_CHARS), console)


def _print_members(members: Sequence[Mapping[str, Any]], console: Console, whole: bool) -> None:
    """A group's answers: two of them beside each other on a terminal."""
    shown = []
    for member in members:
        reward = f"reward {member['reward']:g}" if member.get("reward") is not None else ""
        most = None if whole else TAIL_CHARS
        told = shown_turns(member["turns"], member.get("spans"), member["side"], most)
        shown.append((member["side"], reward, told))
    marked.print_sides(shown, console)


def print_trained(group: Sequence[Trained], console: Console, whole: bool = False) -> None:
    """The sequences of a group, each token in the colour of its weight; red is pushed down."""
    console.print(Rule(Text(f"{len(group)} sequences" if len(group) > 1 else "a sequence"), align="left"))
    shown = []
    for one in group:
        pieces = one.pieces if whole else without_middles(one.pieces, TAIL_CHARS)
        shown.append((one.side, f"{one.scored:,} of {one.tokens:,} tokens are scored", [("", pieces)]))
    marked.print_sides(shown, console)
