"""Rows of any trace file -> TRACE rows for the verifier, in segments that are always cut at the same places."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from redi_ray.config.trace_files import REQUIRED, TraceColumns
from redi_ray.data.readers import UNREAD, DataError, Row, file_rows, first_columns
from redi_ray.data.sources import lookup, text_or_none
from redi_ray.schemas import VERIFIERS, Verdict

SEGMENT_ROWS = 20_000
"""Input rows per output file, which is also what a crash can cost."""


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
    """A TRACE row (its `problem` is "": verification does not look at it).

    Raises RowRefused if the row lacks an id or a completion, or holds an answer or a vote of no known form.
    """
    assert row is not UNREAD
    if row.value is None:
        raise RowRefused("unreadable_row", row.error)
    problem_id = text_or_none(lookup(row.value, columns.problem_id))
    if problem_id is None:
        raise RowRefused("no_problem_id", _told(row.value, columns.problem_id))
    completion = lookup(row.value, columns.completion)
    if not isinstance(completion, str):
        raise RowRefused("no_completion", _told(row.value, columns.completion))
    answer = lookup(row.value, columns.answer)
    if not isinstance(answer, str | int | float | None) or isinstance(answer, bool):
        raise RowRefused("bad_answer", _told(row.value, columns.answer))
    finish_reason = lookup(row.value, columns.finish_reason)
    return {
        "problem_id": problem_id,
        "problem": "",
        "answer": text_or_none(answer),
        "trace_id": text_or_none(lookup(row.value, columns.trace_id)) or f"{problem_id}#{row.where}",
        "sample_index": 0,
        "completion": completion,
        "finish_reason": finish_reason if isinstance(finish_reason, str) else None,
        "votes": _votes(row.value, columns),
    }


def _votes(value: dict[str, Any], columns: TraceColumns) -> dict[str, str | None]:
    found: dict[str, str | None] = dict.fromkeys(VERIFIERS)
    for name, column in columns.votes.items():
        vote = lookup(value, column)
        if isinstance(vote, str) and vote in set(Verdict):
            found[name] = vote
        elif vote in (True, False):  # and 1, 0, which other tools write
            found[name] = str(Verdict.CORRECT if vote else Verdict.WRONG)
        elif vote is not None:
            raise RowRefused("bad_vote", _told(value, column))
    return found


def _told(value: dict[str, Any], column: str) -> str:
    found = lookup(value, column)
    if found is None:
        return f"column `{column}` is missing or null; the row has {', '.join(value)}"
    return f"column `{column}` holds {type(found).__name__} {str(found)[:50]!r}"


def check_columns(uri: str, columns: TraceColumns) -> None:
    """Raise DataError unless the file's first readable row has every column that was named or is required."""
    present = first_columns(uri)
    needed = {name: getattr(columns, name) for name in REQUIRED} | columns.votes
    default = TraceColumns()
    needed |= {
        name: getattr(columns, name)
        for name in ("trace_id", "finish_reason")
        if getattr(columns, name) not in (None, getattr(default, name))
    }
    missing = [
        f"{name} (column `{column}`)"
        for name, column in needed.items()
        if column not in present and column.split(".")[0] not in present
    ]
    if missing:
        raise DataError(
            f"{uri} has no {', no '.join(missing)}; its columns are {', '.join(present) or '(none: no row can be read)'}. "
            "Say which column is what, such as --column answer=ground_truth"
        )
