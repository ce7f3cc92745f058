"""Rows of any trace file -> TRACE rows for the verifier, in segments that are always cut at the same places."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from redi_ray.config.trace_files import REQUIRED, TraceColumns
from redi_ray.data.sources.chats import BadChat, read_completion
from redi_ray.data.sources.readers import UNREAD, DataError, Row, file_rows, first_columns
from redi_ray.data.sources.rows import lookup
from redi_ray.data.sources.values import BadValue, read_answer, read_id, read_vote, shown
from redi_ray.schemas import UNFINISHED, stored_votes
from redi_ray.text.code_tests import BadTests, read_tests
from redi_ray.text.finish import finish_reason

SEGMENT_ROWS = 20_000
"""Input rows per output file, which is also what a crash can cost."""
FILES_LOOKED_AT = 20
"""Files that are searched for a column before it counts as missing."""


class RowRefused(ValueError):
    """Why a row is no trace: `reason` in a word, and the detail."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True)
class Stripe:
    """The part of a file that one task verifies: every `of`-th segment from `number` on, but those that are `done`."""

    uri: str
    name: str
    """What the file is called in ids and rejects; unique among the files."""
    number: int = 0
    of: int = 1
    done: frozenset[int] = field(default_factory=frozenset)
    segment_rows: int = SEGMENT_ROWS

    def wants(self, position: int) -> bool:
        """Whether the row at this position is this task's."""
        return self.wants_segment(position // self.segment_rows)

    def wants_segment(self, segment: int) -> bool:
        return segment % self.of == self.number and segment not in self.done


def stripe_rows(stripe: Stripe, columns: TraceColumns) -> Iterator[tuple[int, Row]]:
    """(segment, row) for every row of the file, in order; UNREAD for rows of other stripes.

    Raises DataError if the file cannot be read to its end.
    """
    first_names = {part for name in columns.names for part in (name, name.split(".")[0])}
    rows = file_rows(stripe.uri, name=stripe.name, columns=first_names, wanted=stripe.wants)
    for position, row in enumerate(rows):
        yield position // stripe.segment_rows, row


def parse_trace(row: Row, columns: TraceColumns) -> dict[str, Any]:
    """A TRACE row (its `problem` is "": verification does not look at it), with its `tests` beside if it has any.

    Raises RowRefused if the row lacks an id or a completion, or holds an answer, tests or a vote of no known form.
    """
    assert row is not UNREAD
    if row.value is None:
        raise RowRefused("unreadable_row", row.error)
    problem_id = read_id(lookup(row.value, columns.problem_id))
    if problem_id is None:
        raise RowRefused("no_problem_id", _told(row.value, columns.problem_id))
    try:
        completion = read_completion(lookup(row.value, columns.completion))
    except BadChat as error:
        raise RowRefused(error.reason, f"column `{columns.completion}`: {error}") from error
    if completion is None:
        raise RowRefused("no_completion", _told(row.value, columns.completion))
    try:
        answer = read_answer(lookup(row.value, columns.answer))
    except BadValue as error:
        raise RowRefused("bad_answer", f"{_told(row.value, columns.answer)}: {error}") from error
    try:
        tests = read_tests(*(lookup(row.value, column) for column in columns.of_tests))
    except BadTests as error:
        raise RowRefused("bad_tests", f"{_told(row.value, str(columns.tests))}: {error}") from error
    reason = lookup(row.value, columns.finish_reason)
    return {
        "problem_id": problem_id,
        "problem": "",
        "answer": answer,
        "trace_id": read_id(lookup(row.value, columns.trace_id)) or f"{problem_id}#{row.where}",
        "sample_index": 0,
        "completion": completion.text,
        "turns": completion.turns,
        "finish_reason": UNFINISHED if completion.broken_off and reason is None else finish_reason(reason),
        "votes": _votes(row.value, columns),
        **({} if tests is None else {"tests": tests}),
    }


def _votes(value: dict[str, Any], columns: TraceColumns) -> list[dict[str, str]]:
    found: dict[str, str | None] = {}
    for name, column in columns.votes.items():
        try:
            found[name] = read_vote(lookup(value, column))
        except BadValue as error:
            raise RowRefused("bad_vote", f"{_told(value, column)}, {error}") from error
    return stored_votes(found)


def _told(value: dict[str, Any], column: str) -> str:
    found = lookup(value, column)
    if found is None:
        return f"column `{column}` is missing or null; the row has {', '.join(value)}"
    return f"column `{column}` holds {shown(found)}"


def check_columns(uris: list[str], columns: TraceColumns) -> None:
    """Raise DataError unless each column that was named or is required is in one of the files, in their first rows."""
    needed = {name: getattr(columns, name) for name in REQUIRED} | columns.votes
    if columns.tests is not None:
        if needed["answer"] == TraceColumns().answer:
            del needed["answer"]
        given = {name: getattr(columns, name) for name in ("tests", "entry_point", "test_setup")}
        needed |= {name: column for name, column in given.items() if column is not None}
    default = TraceColumns()
    needed |= {
        name: getattr(columns, name)
        for name in ("trace_id", "finish_reason")
        if getattr(columns, name) not in (None, getattr(default, name))
    }
    present: dict[str, None] = {}
    missing = needed
    for uri in uris[:FILES_LOOKED_AT]:
        present |= dict.fromkeys(first_columns(uri, until=[column.split(".")[0] for column in missing.values()]))
        missing = {
            name: column
            for name, column in needed.items()
            if column not in present and column.split(".")[0] not in present
        }
        if not missing:
            return
    no = ", no ".join(f"{name} (column `{column}`)" for name, column in missing.items())
    raise DataError(
        f"{uris[0]} has no {no}; its columns are {', '.join(present) or '(none: no row can be read)'}. "
        "Say which column is what, such as --column answer=ground_truth"
    )
