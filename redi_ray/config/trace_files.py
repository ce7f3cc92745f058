"""Settings of `redi-ray verify --traces`: which column of a trace file is what. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from redi_ray.config.answers import VerifySettings
from redi_ray.config.strict import STRICT, require


@dataclass(frozen=True, kw_only=True)
class TraceColumns:
    """Which column of a trace file is what; dots reach into nested columns (`votes.label`)."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    LATER: ClassVar[frozenset[str]] = frozenset({"tests", "entry_point", "test_setup"})

    problem_id: str = "problem_id"
    """The problem that the trace is of: text or a number."""
    answer: str = "answer"
    """The reference answer (text, a number, true or false, a list of one); where there is none the verdict is
    `gold_unparseable`."""
    tests: str | None = None
    """Tests, as in `problems.source.columns`; a row that has them needs no answer."""
    entry_point: str | None = None
    """The function that they call, where they do not say it."""
    test_setup: str | None = None
    """Code that assertions need."""
    completion: str = "completion"
    """The trace's text, or a chat whose one assistant turn it is."""
    trace_id: str | None = "trace_id"
    """The trace's own id. Null, or not in the row: `problem_id#file:row`."""
    finish_reason: str | None = "finish_reason"
    """Why the trace ended, in any service's words (`redi_ray.text.finish`): of one cut off at its token limit only an explicit
    answer counts, and one that was broken off, or ended for an unknown reason, is never `wrong`. Null, or not in the row: it
    ended by itself."""
    label: str | None = None
    """A label that came with the trace: true or false, 1 or 0, yes or no, or a verdict's name; null and NaN are none."""
    judge: str | None = None
    """A judge model's vote, in the same form."""
    math_verify: str | None = None
    """An earlier Math-Verify vote, in the same form; it counts only with `reuse_votes`."""
    others: dict[str, str] = field(default_factory=dict)
    """Other verifier -> column of its vote, in the same form; `--column votes.NAME=COLUMN`."""

    def __post_init__(self) -> None:
        for name in REQUIRED:
            require(bool(getattr(self, name)), f"the column of {name} must have a name")

    @property
    def of_tests(self) -> tuple[str | None, str | None, str | None]:
        """The columns of tests, of the function that they call, and of what they need."""
        return self.tests, self.entry_point, self.test_setup

    @property
    def votes(self) -> dict[str, str]:
        """Verifier -> column of its vote, for those that the file has."""
        found = {name: getattr(self, name) for name in ("label", "judge", "math_verify")} | self.others
        return {name: column for name, column in found.items() if column is not None}

    @property
    def names(self) -> list[str]:
        """Every column that may be read."""
        found = [getattr(self, one.name) for one in fields(self) if one.name != "others"]
        return [name for name in (*found, *self.others.values()) if name is not None]


REQUIRED = ("problem_id", "answer", "completion")
"""Columns that must be there."""


def check_votes(settings: VerifySettings, columns: TraceColumns) -> None:
    """ValueError unless every vote that counts is ours or has a column."""
    for name in settings.votes:
        ours = ["math_verify", *(["tests"] if columns.tests is not None and settings.tests is not None else [])]
        have = name in ours or name in columns.votes
        have_all = ", ".join(dict.fromkeys([*ours, *columns.votes]))
        option = name if name in ("label", "judge") else f"votes.{name}"
        require(
            have,
            f"votes holds {name}, but no column has it; name one with --column {option}=COLUMN. There are: {have_all}",
        )
    if settings.reuse_votes:
        require(
            "math_verify" in columns.votes, "reuse_votes needs the column of those votes: --column math_verify=COLUMN"
        )
