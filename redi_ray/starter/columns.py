"""What the columns of some rows hold: types, how much of them is there, lengths, a sample."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from redi_ray.data.sources.chats import as_chat

MOST_DEEP = 3
"""Names in a dotted path."""
SAMPLE_CHARS = 60


@dataclass
class Column:
    """One column, or a field of one that holds objects."""

    path: str
    """Dots reach into nested columns."""
    rows: int
    kinds: Counter[str] = field(default_factory=Counter)
    """text, number, truth, chat, texts (a list of them), list, object -> in how many rows."""
    lengths: list[int] = field(default_factory=list)
    """Characters of each text, of the longest one in a list."""
    values: list[Any] = field(default_factory=list)
    """Those that are not null."""

    @property
    def kind(self) -> str:
        """What it mostly holds."""
        return self.kinds.most_common(1)[0][0] if self.kinds else "null"

    @property
    def filled(self) -> float:
        """Share of the rows that have a value."""
        return len(self.values) / self.rows

    @property
    def told(self) -> str:
        """Its types, such as `text` or `text (190), number (10)`."""
        if len(self.kinds) < 2:
            return self.kind
        return ", ".join(f"{kind} ({count})" for kind, count in self.kinds.most_common())

    @property
    def texts(self) -> list[str]:
        """The values that are texts, numbers as they are written."""
        return [value if isinstance(value, str) else str(value) for value in self.values]

    @property
    def sample(self) -> str:
        """The beginning of the first value that says something, on one line."""
        return next((text for value in self.values if (text := shown(value))), "")

    def share(self, holds: Any) -> float:
        """Of the values, those for which `holds` is true of the text."""
        return sum(bool(holds(text)) for text in self.texts) / len(self.values) if self.values else 0.0


def shown(value: Any, most: int = SAMPLE_CHARS) -> str:
    """A value's beginning on one line; of a chat what is said."""
    chat = None if isinstance(value, str) else as_chat(value)
    if chat is not None:
        said = [(turn.get("role") or turn.get("from"), turn.get("content") or turn.get("value") or "") for turn in chat]
        value = " ".join(f"{who}: {what}" for who, what in said)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}\u2026"


def columns_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Column]:
    """Every column by its path, in the order in which they come; an object's fields behind it."""
    found: dict[str, Column] = {}
    for row in rows:
        for path, value in _fields(row):
            column = found.setdefault(path, Column(path, len(rows)))
            if value is not None:
                column.kinds[kind_of(value)] += 1
                column.values.append(value)
                column.lengths.append(_length(value))
    return found


def _fields(row: Mapping[str, Any], before: str = "", depth: int = 1) -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        path = f"{before}{name}"
        yield path, value
        if isinstance(value, Mapping) and as_chat(value) is None and depth < MOST_DEEP:
            yield from _fields(value, f"{path}.", depth + 1)


def kind_of(value: Any) -> str:
    """What a value is."""
    if isinstance(value, bool):
        return "truth"
    if isinstance(value, int | float):
        return "number"
    if as_chat(value) is not None:
        return "chat"
    if isinstance(value, str):
        return "text"
    if isinstance(value, list):
        return "texts" if value and all(isinstance(item, str) for item in value) else "list"
    return "object" if isinstance(value, Mapping) else type(value).__name__


def _length(value: Any) -> int:
    """Characters of a text, of the longest of several, of all turns of a chat."""
    chat = as_chat(value)
    if chat is not None:
        return sum(len(str(turn.get("content") or turn.get("value") or "")) for turn in chat)
    if isinstance(value, list):
        return max((len(item) for item in value if isinstance(item, str)), default=len(str(value)))
    return len(value) if isinstance(value, str) else len(str(value))
