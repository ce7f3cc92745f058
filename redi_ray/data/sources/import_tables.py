"""What an import gives: rows of its tables, counts of what became of a set, and what to say where nothing can be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from redi_ray.config.prompts import PromptSettings
from redi_ray.data.curate.beginnings import complaint
from redi_ray.data.sources.import_rows import WITHOUT_PREFIX
from redi_ray.data.sources.shapes import Layout
from redi_ray.schemas import EXAMPLE, GROUP, PAIR

SCHEMAS = {"examples": EXAMPLE, "pairs": PAIR, "groups": GROUP}
MOST_TOLD = 5
"""Reasons in a message."""


@dataclass(frozen=True)
class ImportCounts:
    """What became of a set's rows."""

    layout: Layout
    rows: dict[str, int]
    """`in` and `out`."""
    dropped: dict[str, int]
    rejected: dict[str, int]
    tables: dict[str, int]
    """Rows of each table."""
    positive: int = 0
    """Answers on the side +1."""
    answers: int = 0
    several_turns: int = 0
    """Answers of more than one turn."""
    warnings: list[str] = field(default_factory=list)
    first: dict[str, str] = field(default_factory=dict)
    """Drop reason -> the text of the first row that it dropped."""


def pair_of(group: Mapping[str, Any]) -> dict[str, Any]:
    """A row of PAIR, of a group of two."""
    better, worse = group["members"]
    return {
        "pair_id": group["group_id"],
        "problem_id": group["problem_id"],
        "prompt": group["prompt"],
        "chosen": better["turns"],
        "rejected": worse["turns"],
        "chosen_finished": better["finished"],
        "rejected_finished": worse["finished"],
    }


def example_of(group: Mapping[str, Any]) -> dict[str, Any]:
    """A row of EXAMPLE, of a group of one."""
    (answer,) = group["members"]
    return {
        "example_id": group["group_id"],
        "problem_id": group["problem_id"],
        "messages": [*group["prompt"], *answer["turns"]],
        "finished": answer["finished"],
    }


def refusal(
    where: str, rows: str, layout: Layout, reasons: Counter[str], first: Mapping[str, str], prompt: PromptSettings
) -> str:
    """What to say of a set without a row that can be used: why not, and how to mend it. first: what is told of
    each reason's first row."""
    lines = [f"{name} ({count}): {first.get(name, '')[:300]}" for name, count in reasons.most_common(MOST_TOLD)]
    without = sum(count for name, count in reasons.items() if name.endswith(WITHOUT_PREFIX))
    if 2 * without > reasons.total():
        example = next(text for name, text in first.items() if name.endswith(WITHOUT_PREFIX))
        lines = [complaint(without, reasons.total(), "answers", prompt, example)]
    return "\n  ".join([f"{where}: none of {rows} can be used, read as {layout}", *lines])
