"""What kind of set some rows are, told by the names of their columns: preferences, answers, labelled answers, rollouts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import yaml

from redi_ray.config.data import FileSet, HubSet
from redi_ray.config.imports import COLUMNS, ImportColumns, ImportSettings, Shape
from redi_ray.data.sources.chats import ROLES, as_chat
from redi_ray.data.sources.folders import DataError
from redi_ray.data.sources.rows import lookup

LOOKED_AT = 200
"""Rows that are looked at to tell a set's shape."""
MOST_TOLD = 8
"""Columns in a message."""
NAMES: dict[str, tuple[str, ...]] = {
    "prompt": ("prompt", "problem", "question", "instruction", "query", "input"),
    "system": ("system", "system_prompt"),
    "messages": ("messages", "conversations", "conversation", "chat"),
    "completion": (
        "completion", "response", "output", "generation", "responses", "completions", "outputs", "generations", "samples",
        "solution",
    ),
    "reasoning": ("reasoning", "reasoning_content", "thinking"),
    "chosen": ("chosen", "chosen_response"),
    "rejected": ("rejected", "rejected_response"),
    "begun": ("initial_reason_steps",),
    "score_chosen": ("score_chosen", "chosen_score", "chosen_rating"),
    "score_rejected": ("score_rejected", "rejected_score", "rejected_rating"),
    "label": ("label",),
    "reward": ("reward", "rewards", "scores"),
    "steps_right": ("steps_right",),
    "steps_wrong": ("steps_wrong",),
    "first_error": ("first_error",),
    "finish_reason": ("finish_reason", "finish_reasons", "finished"),
    "finish_chosen": ("chosen_finish_reason", "chosen_finished"),
    "finish_rejected": ("rejected_finish_reason", "rejected_finished"),
    "id": ("prompt_id", "problem_id", "question_id", "id", "uuid"),
}  # fmt: skip
"""Usual names of columns, the likeliest first. A `score` of a single answer may be anybody's, so it has to be named."""
NOUNS: dict[Shape, str] = {
    "preference": "a preference set",
    "sft": "a set of answers",
    "unpaired": "a set of labelled answers",
    "rollouts": "samples with rewards",
    "steps": "right and wrong solutions in steps",
}
HAVE = (
    "a preference set has `chosen` and `rejected`; a set of answers `messages`, or `prompt` and `completion`; labelled answers a "
    "`label` besides, samples with rewards a `reward`; solutions in steps `prompt`, `steps_right` and `steps_wrong`"
)
"""What makes each shape, for a message."""


@dataclass(frozen=True)
class Layout:
    """How a set is read."""

    shape: Shape
    columns: Mapping[str, str]
    """What it is (a field of `ImportColumns`, or `input` of Alpaca's form) -> the column."""
    forms: Mapping[str, str]
    """What it is -> `text`, `chat` or `list` (of samples), for columns that hold answers and prompts."""
    unread: tuple[str, ...] = ()
    """Columns of the rows that say nothing here."""

    def __str__(self) -> str:
        """In words, such as: a preference set: prompt in `prompt` (text), chosen in `chosen` (chat)."""
        told = [
            f"{name} in `{column}`" + (f" ({form})" if (form := self.forms.get(name)) else "")
            for name, column in self.columns.items()
        ]
        whole = self.shape == "preference" and "prompt" not in self.columns
        more = "; the prompt is what both chats begin with" if whole else ""
        if self.unread:
            more += f"; not read: {', '.join(self.unread[:MOST_TOLD])}{', ...' if len(self.unread) > MOST_TOLD else ''}"
        return f"{NOUNS[self.shape]}: {', '.join(told)}{more}"


def layout_of(settings: ImportSettings, rows: Sequence[Mapping[str, Any]], where: str = "source") -> Layout:
    """How to read these rows, the first of a set. Raises DataError where that cannot be told."""
    shape = None if settings.shape == "auto" else settings.shape
    found = recognised(rows, settings.columns, shape)
    if found is None:
        names, make = ", ".join(_names(rows)) or "(none: no row can be read)", NOUNS[shape] if shape else "a set"
        raise DataError(
            f"{where}: the columns {names} do not tell how to read {make}: {HAVE}. Say which is which, such as columns: "
            "{prompt: question, completion: answer}"
        )
    if idle := [name for name in settings.columns.given if name not in found.columns]:
        raise DataError(
            f"{where}: columns.{idle[0]} is not read of {NOUNS[found.shape]}, which has {', '.join(found.columns)} here; leave "
            "it out, or say by `shape` what the set is"
        )
    if settings.judge is not None and found.shape != "rollouts":
        raise DataError(
            f"{where}: judge asks about samples with rewards, and this is {NOUNS[found.shape]} ({found}); name the column of the "
            "rewards as columns.reward"
        )
    if settings.calls is not None:
        found = replace(found, unread=tuple(name for name in found.unread if name != settings.calls.column))
    missing = [f"{name}: {column}" for name, column in found.columns.items() if not _present(rows, column)]
    if missing:
        raise DataError(
            f"{where}: no row has the columns that `columns` names ({', '.join(missing)}); there are {', '.join(_names(rows))}"
        )
    return found


def recognised(
    rows: Sequence[Mapping[str, Any]], columns: ImportColumns | None = None, shape: Shape | None = None
) -> Layout | None:
    """What the rows look like; None if they look like none of the shapes. columns, shape: what the user has said."""
    given = columns.given if columns is not None else {}
    found = {name: column for name in NAMES if (column := given.get(name) or _usual(name, rows))}
    told = shape or _shape(found)
    if told is None or not _complete(told, found):
        return None
    kept = {name: found[name] for name in COLUMNS[told] if name in found}
    if "messages" in kept and not ({"prompt", "completion"} & given.keys()):
        kept = {name: column for name, column in kept.items() if name not in ("prompt", "completion", "reasoning")}
    else:
        kept.pop("messages", None)
    if "messages" in kept and "completion" in found and _asks(rows, kept["messages"]):
        kept |= {name: found[name] for name in ("completion", "reasoning") if name in found}
        kept = {"prompt": kept.pop("messages"), **kept}
    if kept.get("prompt") == "instruction" and "prompt" not in given and _present(rows, "input"):
        kept["input"] = "input"
    forms = {name: form for name in ANSWERS if name in kept and (form := _form(rows, kept[name]))}
    read = {column.split(".")[0] for column in kept.values()}
    return Layout(told, kept, forms, tuple(name for name in _names(rows) if name and name not in read))


def _asks(rows: Iterable[Mapping[str, Any]], column: str) -> bool:
    """Whether the first chat ends with a question, whose answers lie in a column of their own."""
    chat = next((chat for row in rows if (chat := as_chat(lookup(dict(row), column)))), None)
    turn = chat[-1] if chat else {}
    return ROLES.get(str(turn.get("role") or turn.get("from")).strip().casefold()) == "user"


ANSWERS = ("prompt", "messages", "completion", "chosen", "rejected")
"""What of a layout has a form."""


def _shape(found: Mapping[str, str]) -> Shape | None:
    if "chosen" in found and "rejected" in found:
        return "preference"
    if "steps_right" in found and "steps_wrong" in found:
        return "steps"
    if not _answered(found):
        return None
    return "rollouts" if "reward" in found else "unpaired" if "label" in found else "sft"


def _answered(found: Mapping[str, str]) -> bool:
    return "messages" in found or ("completion" in found and "prompt" in found)


def _complete(shape: Shape, found: Mapping[str, str]) -> bool:
    if shape == "preference":
        return "chosen" in found and "rejected" in found
    if shape == "steps":
        return {"prompt", "steps_right", "steps_wrong"} <= found.keys()
    needed = {"rollouts": "reward", "unpaired": "label"}.get(shape)
    return _answered(found) and (needed is None or needed in found)


def _usual(name: str, rows: Sequence[Mapping[str, Any]]) -> str | None:
    return next((column for column in NAMES[name] if _present(rows, column)), None)


def _present(rows: Iterable[Mapping[str, Any]], column: str) -> bool:
    return any(lookup(dict(row), column) is not None for row in rows)


def _names(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _form(rows: Iterable[Mapping[str, Any]], column: str) -> str:
    """Of the first value: the text of a chat, or a list of samples."""
    value = next((value for row in rows if (value := lookup(dict(row), column)) is not None), None)
    if as_chat(value) is not None:
        return "chat"
    return "list" if isinstance(value, list) else "text" if isinstance(value, str) else ""


TRAINED = {"preference": "redi", "sft": "sft", "unpaired": "kto", "rollouts": "advantage", "steps": "dpo"}
"""An objective that fits a shape, for an example."""


def import_instead(source: Any, rows: Sequence[Mapping[str, Any]]) -> str:
    """What to tell somebody who has given a set as problems: the shape that is recognised, and the steps that import it. Empty
    where none is."""
    found = recognised(rows)
    if found is None or not isinstance(source, FileSet | HubSet):
        return ""
    where = source.model_dump(
        mode="json", include=set(FileSet.model_fields) | set(HubSet.model_fields), exclude_defaults=True
    )
    told = {"kind": source.kind, **where}
    steps = {
        "mine": {"do": "import", "source": told},
        "tuned": {"do": "train", "from": "base", "on": "mine", "objective": {"name": TRAINED[found.shape]}},
    }
    lines = [
        f"{name}: {yaml.safe_dump(step, default_flow_style=True, sort_keys=False, width=1000)}"
        for name, step in steps.items()
    ]
    return "\n".join(
        [f"\nThe rows look like {found}. Such a set is imported, in place of `problems` and `generate`:", "steps:"]
        + [f"  {line.strip()}" for line in lines]
    )
