"""Which table of a stage a training reads, and its rows as groups: one shape for examples, pairs and groups of n.

A training on examples takes the table `examples`; where there is none, the chosen sides of `pairs`, or of `groups` every member
of side +1, each an example of its own. One on pairs takes `pairs`, or of `groups` those of one +1 and one -1. One on groups
takes `groups`, `pairs` or `examples`, whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from redi_ray.schemas import EXAMPLE, GROUP, PAIR, TOKEN_COLUMNS, TOKEN_DISTRIBUTIONS, TOKEN_WEIGHTS
from redi_ray.text.templates import Message

Learnt = Literal["examples", "pairs", "groups"]
"""What a training learns from."""
Row = Mapping[str, Any]
Group = dict[str, Any]
"""A row of GROUP."""

SCHEMAS = {"examples": EXAMPLE, "pairs": PAIR, "groups": GROUP}
IDS = {"examples": "example_id", "pairs": "pair_id", "groups": "group_id"}
READS: dict[Learnt, tuple[Learnt, ...]] = {
    "examples": ("examples", "pairs", "groups"),
    "pairs": ("pairs", "groups"),
    "groups": ("groups", "pairs", "examples"),
}
"""Tables that can be made into each kind, the best first."""
WEIGHTS = "weights"
"""Of a member: its part of the row's `token_weights`, where there are any."""
COLUMNS = "columns"
"""Of a member: its part of the row's `token_columns`, by name."""
SOFT = "soft"
"""Of a member: its part of the row's `soft_targets`, or None where no teacher has scored it."""
NO_POSITIVE, UNPAIRED = "no_positive", "unpaired"
"""Why a group gives nothing: none of its members is of side +1; they are not one of +1 and one of -1."""


def table_for(kind: Learnt, files: Callable[[str], list[str]]) -> tuple[Learnt, list[str]] | None:
    """The table that a training of this kind reads, with its files in order; None where nothing can be made into it."""
    return next(((table, found) for table in READS[kind] if (found := files(table))), None)


def groups_of(row: Row, table: Learnt, kind: Learnt) -> list[Group] | str:
    """What a training of `kind` makes of a row of `table`, or why that is nothing."""
    group = TO_GROUP[table](row)
    if (weights := row.get(TOKEN_WEIGHTS)) is not None:
        paired = zip(group["members"], weights, strict=True)
        group["members"] = [{**member, WEIGHTS: mine} for member, mine in paired]
    if (columns := row.get(TOKEN_COLUMNS)) is not None:
        of_each = [{one["name"]: one["values"][at] for one in columns} for at in range(len(group["members"]))]
        group["members"] = [{**member, COLUMNS: mine} for member, mine in zip(group["members"], of_each, strict=True)]
    if (soft := row.get(TOKEN_DISTRIBUTIONS)) is not None:
        group["members"] = [{**member, SOFT: mine} for member, mine in zip(group["members"], soft, strict=True)]
    sides = [member["side"] for member in group["members"]]
    if kind == "examples" and table != "examples":
        chosen = [member for member in group["members"] if member["side"] == 1]
        ids = [group["group_id"]] if table == "pairs" else [f"{group['group_id']}#{at}" for at in range(len(chosen))]
        split = [{**group, "group_id": name, "members": [one]} for name, one in zip(ids, chosen, strict=True)]
        return split or NO_POSITIVE
    if kind == "pairs" and sorted(sides, key=str) != [-1, 1]:
        return UNPAIRED
    return [group]


def _of_example(row: Row) -> Group:
    """The last message is what is learnt, the others are the prompt."""
    *prompt, answer = row["messages"]
    return _group(row, "example_id", prompt, [_member([answer], +1, row.get("finished"))])


def _of_pair(row: Row) -> Group:
    chosen = _member(row["chosen"], +1, row.get("chosen_finished"))
    return _group(row, "pair_id", row["prompt"], [chosen, _member(row["rejected"], -1, row.get("rejected_finished"))])


def _of_group(row: Row) -> Group:
    return _group(row, "group_id", row["prompt"], row["members"])


def _group(row: Row, key: str, prompt: list[Message], members: list[dict[str, Any]]) -> Group:
    return {"group_id": row[key], "problem_id": row.get("problem_id"), "prompt": prompt, "members": members}


def _member(turns: list[Message], side: int, finished: bool | None) -> dict[str, Any]:
    return {"turns": turns, "side": side, "reward": None, "finished": finished, "spans": None}


TO_GROUP: dict[Learnt, Callable[[Row], Group]] = {"examples": _of_example, "pairs": _of_pair, "groups": _of_group}
