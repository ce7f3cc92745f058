"""Answers beside each other on the report: of groups as they are stored, and of what trainings have learnt from, by token."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from redi_ray.pipeline.graph import Step
from redi_ray.report.marks import Told, shown_turns, without_middles
from redi_ray.report.runs import RunRecord, attempt
from redi_ray.report.trained import NothingTrained, Trained, trained_groups
from redi_ray.store.manifests import Manifest
from redi_ray.store.parquet import read_batches

GROUPS_SHOWN = 2
"""Of a step."""
MEMBERS_SHOWN = 4
"""Of a group: the first of either side."""
MOST_CHARS = 6_000
"""Of a text."""
SIDES = {1: "chosen", -1: "rejected"}


@dataclass(frozen=True)
class Answer:
    """One of a group."""

    side: str
    more: str
    """What else is known of it."""
    turns: list[Told]


@dataclass(frozen=True)
class Answers:
    """A group."""

    name: str
    prompt: str
    answers: list[Answer]


def groups_of_steps(run: RunRecord) -> dict[str, list[Answers]]:
    """Step -> its first pairs, or where it has none its first groups; what cannot be read is a note."""
    found = {}
    for step in run.steps("groups"):
        made = run.stages[step.stage]
        table = next((name for name in TABLES if made is not None and made.files(name)), None)
        if made is not None and table is not None:
            found[step.name] = attempt(partial(_first_of, made, table), made.table(table), run.notes) or []
    return {name: groups for name, groups in found.items() if groups}


def _first_of(made: Manifest, table: str) -> list[Answers]:
    rows = next(read_batches(made.files(table)[0])).slice(0, GROUPS_SHOWN).to_pylist()
    return [TABLES[table](row) for row in rows]


def _of_pair(row: Mapping[str, Any]) -> Answers:
    sides = [Answer(side, "", shown_turns(row[side], None, 1, MOST_CHARS)) for side in SIDES.values()]
    return Answers(row["pair_id"], _text(row["prompt"]), sides)


def _of_group(row: Mapping[str, Any]) -> Answers:
    members = sorted(row["members"], key=lambda member: -member["side"])
    kept = (
        members if len(members) <= MEMBERS_SHOWN else [*members[: MEMBERS_SHOWN // 2], *members[-MEMBERS_SHOWN // 2 :]]
    )
    answers = [
        Answer(
            SIDES[member["side"]],
            "" if member["reward"] is None else f"reward {member['reward']:g}",
            shown_turns(member["turns"], member["spans"], member["side"], MOST_CHARS),
        )
        for member in kept
    ]
    left = f" (of its {len(members)} answers {len(kept)} are shown)" if len(kept) < len(members) else ""
    return Answers(row["group_id"] + left, _text(row["prompt"]), answers)


TABLES: dict[str, Callable[[Mapping[str, Any]], Answers]] = {"pairs": _of_pair, "groups": _of_group}
"""How a row of each table is shown; the first that there is, is."""


def _text(messages: Sequence[Mapping[str, str]]) -> str:
    return "\n\n".join(message["content"] for message in messages)


def trained_of(run: RunRecord) -> dict[str, list[Answers]]:
    """Training -> the first groups that it has learnt from. Those whose tokens are gone are left out; damage is a note."""
    finished = {arm.name for arm in run.arms if arm.checkpoint is not None}
    steps = [step for step in run.steps("model") if step.kind == "train" and step.name in finished]
    found = {
        step.name: attempt(partial(_trained, run.uri, step), f"tokens of {step.name}", run.notes) for step in steps
    }
    return {name: groups for name, groups in found.items() if groups}


def _trained(run: str, step: Step) -> list[Answers]:
    try:
        groups = trained_groups(run, step, GROUPS_SHOWN)
    except NothingTrained:
        return []
    return [
        Answers(f"group {number}", "", [_of_tokens(one) for one in group[:MEMBERS_SHOWN]])
        for number, group in enumerate(groups)
    ]


def _of_tokens(one: Trained) -> Answer:
    more = f"{one.scored:,} of {one.tokens:,} tokens are scored"
    return Answer(SIDES[one.side], more, [("", without_middles(one.pieces, MOST_CHARS))])
