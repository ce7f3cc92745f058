"""Where a text stands in a row."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from redi_ray.report.filters import TEXTS

EXCERPT = 80
"""Characters shown on each side of a text that was searched for."""


def excerpt(row: Mapping[str, Any], text: str) -> str:
    """Where a text stands in a row, with a little of what is around it."""
    pattern = re.compile(re.escape(text), re.IGNORECASE)
    for name in TEXTS:
        for said in strings_in(row.get(name)):
            if match := pattern.search(said):
                start, stop = max(0, match.start() - EXCERPT), match.end() + EXCERPT
                return f"{'…' if start else ''}{said[start:stop]}{'…' if stop < len(said) else ''}"
    return ""


def strings_in(value: Any) -> Iterator[str]:
    """Every string in a value of lists and records."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from strings_in(item)
