"""Rows as a list shows them: a line or two each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from redi_ray.report.marks import visible
from redi_ray.report.row_parts import answers_of, asked_of
from redi_ray.report.row_places import Row
from redi_ray.report.row_tables import RowTable
from redi_ray.schemas import votes_of

QUESTION, ANSWER, CELL = 240, 160, 200
"""Characters of each that are shown."""
SIGNS = {1: "+", -1: "-"}


@dataclass(frozen=True)
class Listed:
    """A row of a list."""

    link: str
    name: str
    verdict: str = ""
    question: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    answers: Sequence[tuple[str, int, str]] = ()
    """(name, side, the end of what it says)"""
    excerpt: tuple[str, str, str] | None = None
    """Before, in, and behind a text that was searched for."""


def listed(row: Row, table: RowTable, link: str, text: str = "") -> Listed:
    """A row with its link. text: what was searched for."""
    values = row.values
    name = str(values[table.id_column]) if table.id_column else str(row.place)
    asked = asked_of(values)
    question = next((turn["content"] for turn in reversed(asked) if turn["role"] == "user"), "")
    answers = (
        [(said, side, _end(member)) for said, side, member in answers_of(values)] if "completion" not in values else []
    )
    return Listed(
        link=link,
        name=_short(name, CELL),
        verdict=str(values.get("verdict") or ""),
        question=_short(question, QUESTION),
        facts={name: _short(value, CELL) for name, value in _facts(row).items()},
        answers=answers[:4],
        excerpt=_around(row.excerpt, text) if row.excerpt else None,
    )


def _short(text: str, most: int) -> str:
    text = " ".join(text[: 4 * most].split())
    return visible(text if len(text) <= most else f"{text[:most]}…")


def _end(member: Mapping[str, Any]) -> str:
    turns = member["turns"]
    text = " ".join((turns[-1]["content"] if turns else "")[-4 * ANSWER :].split())
    return visible(text if len(text) <= ANSWER else f"…{text[-ANSWER:]}")


def _facts(row: Row) -> dict[str, str]:
    values, found = row.values, dict[str, str]()
    for name, column in (("gold", "answer"), ("extracted", "extracted_answer")):
        if column in values:
            found[name] = "-" if values[column] is None else str(values[column])
    for name in ("source", "model", "what", "reason", "detail", "where"):
        if values.get(name) is not None:
            found[name] = str(values[name])
    if values.get("num_tokens") is not None:
        found["tokens"] = f"{values['num_tokens']:,}"
    if values.get("finish_reason") not in (None, "stop"):
        found["finish"] = str(values["finish_reason"])
    votes = votes_of(values.get("verdict_by")) or votes_of(values.get("votes"))
    if len(votes) > 1:
        found["votes"] = ", ".join(f"{voter} {vote}" for voter, vote in votes.items())
    if values.get("members"):
        sides = [member["side"] for member in values["members"]]
        found["members"] = ", ".join(f"{sides.count(side)} of side {SIGNS[side]}1" for side in SIGNS if side in sides)
    return found | {name: "-" if value is None else f"{value:.4g}" for name, value in row.numbers.items()}


def _around(excerpt: str, text: str) -> tuple[str, str, str]:
    """An excerpt cut where the text stands in it."""
    at = excerpt.casefold().find(text.casefold()) if text else -1
    if at < 0 or len(excerpt.casefold()) != len(excerpt):
        return visible(excerpt), "", ""
    return visible(excerpt[:at]), visible(excerpt[at : at + len(text)]), visible(excerpt[at + len(text) :])
