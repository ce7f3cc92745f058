"""`redi-ray inspect`: traces on the terminal, with everything that led to their verdict, or the rows of any step."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from redi_ray.report.browse import TraceFilter, details, find_traces, read_as, read_traces

TAIL_CHARS = 1500
"""Characters of a completion shown, from its end, where all of it is not asked for."""
IDS = ("trace_id", "pair_id", "example_id", "group_id", "problem_id")
"""What a row is called by, the narrowest first."""
MESSAGES = ("prompt", "chosen", "rejected", "messages")
"""Columns of what trainings see."""
STYLES = {"correct": "bold green", "wrong": "bold red"}
CONTROL = {code: code + 0x2400 for code in range(0x20) if chr(code) not in "\n\t"} | {0x7F: 0x2421}
CONTROL |= {code: 0xFFFD for code in range(0x80, 0xA0)}
"""Control characters as symbols: what a model wrote must not move the reader's cursor or colour the terminal."""


def inspect_traces(
    target: str,
    wanted: TraceFilter,
    *,
    step: str | None = None,
    limit: int,
    whole: bool,
    as_json: bool,
    console: Console | None = None,
) -> int:
    """Print the first `limit` matches, paged on a terminal; how many there were.

    Raises BrowseError (see `redi_ray.report.browse`).
    """
    console = console or Console()
    rows = read_traces(find_traces(target, step), wanted, limit)
    if as_json:
        return _print_json(rows, console)
    if step is not None and (told := read_as(target, step)):
        console.print(Text(visible(f"{step}: {told}"), "bold"), soft_wrap=True)
    if not console.is_terminal:
        return _print_all(rows, console, whole)
    os.environ.setdefault("LESS", "FRX")  # as git does: no pager for a short text, colours, and the text stays
    with console.pager(styles=True):
        return _print_all(rows, console, whole)


def _print_json(rows: Iterable[dict[str, Any]], console: Console) -> int:
    count = 0
    for row in rows:
        console.file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
        count += 1
    return count


def _print_all(rows: Iterable[dict[str, Any]], console: Console, whole: bool) -> int:
    count = 0
    for row in rows:
        print_trace(row, console, whole=whole)
        count += 1
    return count


def print_trace(row: dict[str, Any], console: Console, *, whole: bool = False) -> None:
    """One row: ids and verdict, where it comes from, votes, problem, answers, messages; of long texts the end, or all of it."""
    heading = Text(visible(next((row[name] for name in IDS if row.get(name)), "?")))
    if "completion" in row or "verdict" in row:
        verdict = str(row.get("verdict") or "no verdict")
        heading.append(f"  {verdict}", STYLES.get(verdict, "bold yellow"))
    console.print(Rule(heading, align="left"))

    def tell(name: str, value: Any) -> None:
        line = Text(f"{name}: ", "bold")
        console.print(line.append(visible(value), "not bold"), soft_wrap=True)

    for name, value in details(row).items():
        tell(name, value)
    if row.get("problem"):
        tell("problem", row["problem"])
    for name, column in (("gold", "answer"), ("extracted", "extracted_answer")):
        if column in row:
            tell(name, "-" if row[column] is None else row[column])
    for name in (name for name in MESSAGES if row.get(name)):
        tell(name, "")
        for message in row[name]:
            tell(f"  {message['role']}", message["content"] if whole else message["content"][-TAIL_CHARS:])
    for member in row.get("members") or ():
        reward = f", reward {member['reward']:g}" if member["reward"] is not None else ""
        tell(f"answer {member['side']:+d}{reward}", "")
        for message in member["turns"]:
            tell(f"  {message['role']}", message["content"] if whole else message["content"][-TAIL_CHARS:])
    completion = row.get("completion")
    if completion is None:
        return
    shown = completion if whole else completion[-TAIL_CHARS:]
    cut = f"the last {len(shown):,} of {len(completion):,} characters; --whole shows all" if shown != completion else ""
    tell("completion", cut)
    console.print(Text(visible(shown)), soft_wrap=True)


def visible(value: Any) -> str:
    """Text with control characters made visible."""
    return str(value).translate(CONTROL)
