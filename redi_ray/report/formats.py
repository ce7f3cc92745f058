"""How a report writes numbers and texts."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from redi_ray.store.storage import finite

LONGEST_TEXT = 12_000
"""Characters of one shown completion; the middle of a longer one is left out, with a note."""


def number(value: float | None, digits: int = 3) -> str:
    """Few significant digits; thousands with commas."""
    if value is None:
        return "-"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"


def tokens(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value >= 1000 else f"{value:.1f}"


def percent(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f}"


def decimal(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def points(value: float | None) -> str:
    """Of a number in percent already."""
    return "-" if value is None else f"{value:.1f}"


def share(value: float | None) -> str:
    """Of a number in [0, 1] that is no percentage."""
    return "-" if value is None else f"{value:.3f}"


def signed(value: float | None, factor: float = 1) -> str:
    """A difference with its sign; factor: 100 gives points."""
    return "-" if value is None else f"{factor * value:+.1f}" if abs(factor * value) >= 1 else f"{factor * value:+.2g}"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 90:
        return f"{seconds:.1f} s"
    minutes = seconds / 60
    return f"{minutes:.1f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def shorten(text: Any) -> str:
    text = "" if text is None else str(text)
    if len(text) <= LONGEST_TEXT:
        return text
    half = LONGEST_TEXT // 2
    return f"{text[:half]}\n\n[... {len(text) - 2 * half:,} characters left out ...]\n\n{text[-half:]}"


def jsonify(value: Any) -> str:
    return shorten(json.dumps(finite(value), indent=1, ensure_ascii=False))


FILTERS: dict[str, Callable[..., str]] = {
    "number": number, "tokens": tokens, "percent": percent, "points": points, "share": share, "decimal": decimal,
    "signed": signed, "duration": duration, "shorten": shorten, "jsonify": jsonify,
}  # fmt: skip
"""By the names that templates call them."""
