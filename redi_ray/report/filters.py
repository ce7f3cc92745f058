"""Which rows to look at, decided in two steps: by small columns, which are cheap to read, then by texts.

A filter is asked about a few rows at a time, as Arrow has them, so that what a column holds (text, turns, members of groups)
needs no Python objects, and votes and turns can be looked into, which expressions of a dataset cannot.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from redi_ray.errors import UserError
from redi_ray.schemas import Verdict

TEXTS = (
    *("problem", "completion", "turns", "extracted_answer", "answer"),
    *("prompt", "messages", "chosen", "rejected", "members"),
    *("trace_id", "pair_id", "example_id", "group_id", "problem_id"),
    *("where", "reason", "detail", "raw"),
)
"""Columns that a search for text looks into."""
TOKENS, COMPLETION = "num_tokens", "completion"
VOTES = ("verdict_by", "votes")
"""Columns of votes, the one that says most first."""


class BrowseError(UserError):
    """There is nothing to look at, or it lacks what a filter asks for."""


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both of them in it; None is no bound."""

    low: float | None = None
    high: float | None = None

    def __bool__(self) -> bool:
        return self.low is not None or self.high is not None

    def holds(self, values: pa.Array) -> pa.Array:
        """Which values are in it; none that is null, or no number."""
        found = pc.is_valid(values)
        if self.low is not None:
            found = pc.and_(found, pc.greater_equal(values, self.low))
        if self.high is not None:
            found = pc.and_(found, pc.less_equal(values, self.high))
        return pc.fill_null(found, False)


@dataclass(frozen=True)
class TraceFilter:
    """Which rows to show; empty fields let everything through."""

    verdicts: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    problem_ids: list[str] = field(default_factory=list)
    min_length: int | None = None
    """Length of the completion in characters."""
    max_length: int | None = None
    text: str | None = None
    """Must occur in one of the TEXTS, as it stands, in any case of letters."""
    tokens: Range = Range()
    """Length of the completion in tokens."""
    votes: Mapping[str, str] = field(default_factory=dict)
    """Verifier -> its vote."""
    scores: Mapping[str, Range] = field(default_factory=dict)
    """Column beside the rows -> its number."""
    among: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Other column of words, such as `finish_reason` -> one of these."""

    def __post_init__(self) -> None:
        known = [str(verdict) for verdict in Verdict]
        if unknown := [name for name in [*self.verdicts, *self.votes.values()] if name not in known]:
            raise BrowseError(f"no verdict {', '.join(unknown)}; they are {', '.join(known)}")

    @property
    def key(self) -> str:
        """The same for equal filters."""
        told = {name: dict(value) if isinstance(value, Mapping) else value for name, value in vars(self).items()}
        told |= {"tokens": asdict(self.tokens), "scores": {name: asdict(one) for name, one in self.scores.items()}}
        return json.dumps(told, sort_keys=True, default=list)

    @property
    def characters(self) -> Range:
        """Length of the completion in characters."""
        return Range(self.min_length, self.max_length)

    @property
    def words(self) -> dict[str, Sequence[str]]:
        """Column of words -> those that are let through."""
        named = {"verdict": self.verdicts, "source": self.sources, "problem_id": self.problem_ids, **self.among}
        return {column: values for column, values in named.items() if values}

    @property
    def reads_texts(self) -> bool:
        """Whether large columns have to be read."""
        return bool(self.text) or bool(self.characters)

    def check(self, schema: pa.Schema) -> None:
        """Raise BrowseError if a column that is filtered by is missing."""
        for column in self.words:
            require_column(schema, column)
        if self.tokens:
            require_column(schema, TOKENS)
        if self.votes:
            vote_column(schema)
        if self.characters:
            require_column(schema, COMPLETION)

    def may_hold(self, bounds: Mapping[str, tuple[Any, Any]]) -> bool:
        """Whether rows may be let through whose columns lie within bounds, as far as these are known."""
        for column, values in self.words.items():
            low, high = bounds.get(column, (None, None))
            if low is not None and not any(low <= value <= high for value in values):
                return False
        low, high = bounds.get(TOKENS, (None, None))
        below = self.tokens.high is not None and low is not None and low > self.tokens.high
        above = self.tokens.low is not None and high is not None and high < self.tokens.low
        return not (below or above)

    def small_columns(self, schema: pa.Schema) -> list[str]:
        """What `small` looks at."""
        return [*self.words, *([TOKENS] if self.tokens else []), *([vote_column(schema)] if self.votes else [])]

    def large_columns(self, schema: pa.Schema) -> list[str]:
        """What `large` looks at."""
        texts = [name for name in TEXTS if name in schema.names] if self.text else []
        return [*texts, *([COMPLETION] if self.characters and COMPLETION not in texts else [])]

    def small(self, rows: pa.Table) -> pa.ChunkedArray | pa.Array:
        """Which rows small columns let through."""
        found = pa.array([True] * rows.num_rows, pa.bool_())
        for column, values in self.words.items():
            found = pc.and_(found, pc.is_in(rows[column], pa.array(list(values), rows.schema.field(column).type)))
        if self.tokens:
            found = pc.and_(found, self.tokens.holds(rows[TOKENS]))
        for verifier, vote in self.votes.items():
            found = pc.and_(found, _cast(rows[vote_column(rows.schema)], verifier, vote))
        return pc.fill_null(found, False)

    def large(self, rows: pa.RecordBatch) -> pa.Array:
        """Which rows their texts let through."""
        found = pa.array([True] * rows.num_rows, pa.bool_())
        if self.characters:
            found = pc.and_(found, self.characters.holds(pc.utf8_length(rows[COMPLETION])))
        if self.text:
            said = pa.array([False] * rows.num_rows, pa.bool_())
            for name in TEXTS:
                if name in rows.schema.names:
                    said = pc.or_(said, holds_text(rows[name], self.text))
            found = pc.and_(found, said)
        return found


def require_column(schema: pa.Schema, column: str) -> None:
    """Raise BrowseError, with the columns that are there, unless `column` is among them."""
    if column not in schema.names:
        raise BrowseError(
            f"these rows have no `{column}`, so it cannot be filtered by; they have {', '.join(schema.names)}"
        )


def vote_column(schema: pa.Schema) -> str:
    """The column of votes. Raises BrowseError where there is none."""
    found = next((name for name in VOTES if name in schema.names), VOTES[0])
    require_column(schema, found)
    return found


def _cast(votes: pa.ChunkedArray, verifier: str, vote: str) -> pa.Array:
    """Of which rows a verifier has cast this vote; of a list, or of the record that tables of earlier versions hold."""
    votes = votes.combine_chunks() if isinstance(votes, pa.ChunkedArray) else votes
    if pa.types.is_struct(votes.type):
        if votes.type.get_field_index(verifier) < 0:
            return pa.array([False] * len(votes), pa.bool_())
        return pc.fill_null(pc.equal(pc.struct_field(votes, verifier), vote), False)
    cast = votes.flatten()
    said = pc.and_(pc.equal(cast.field("verifier"), verifier), pc.equal(cast.field("vote"), vote))
    return _any_of_parents(said, pc.list_parent_indices(votes), len(votes))


def holds_text(values: pa.Array, text: str) -> pa.Array:
    """In which rows a text occurs, in any case of letters: in a string, or in any string of a list or a record."""
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pc.fill_null(pc.match_substring(values, text, ignore_case=True), False)
    if pa.types.is_struct(kind):
        found = pa.array([False] * len(values), pa.bool_())
        for part in values.flatten():
            found = pc.or_(found, holds_text(part, text))
        return found
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _any_of_parents(holds_text(values.flatten(), text), pc.list_parent_indices(values), len(values))
    return pa.array([False] * len(values), pa.bool_())


def _any_of_parents(found: pa.Array, parents: pa.Array, count: int) -> pa.Array:
    """In which of `count` lists an element is found. parents: the list that each element is of."""
    return pc.is_in(pa.array(range(count), pa.int64()), parents.filter(found).cast(pa.int64()))
