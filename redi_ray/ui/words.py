"""How the pages write sizes, ages and times."""

from __future__ import annotations

import time
from typing import Any


def size(value: float | None) -> str:
    """Bytes: 512 B, 3.4 kB, 1.2 GB."""
    if value is None:
        return "-"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 999.5 or unit == "TB":
            return f"{value:.0f} {unit}" if unit == "B" or value >= 99.5 else f"{value:.2g} {unit}"
        value /= 1000
    raise AssertionError("no larger unit")


def span(seconds: float | None) -> str:
    """A time that passes: 12 s, 4 min, 3 h 20 min, 5 days."""
    if seconds is None:
        return "-"
    seconds = max(0.0, seconds)
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {rest:02} min"
    return f"{round(hours / 24)} days"


def ago(at: float | None) -> str:
    """How long ago, in seconds since 1970."""
    if at is None:
        return "-"
    passed = time.time() - at
    return "now" if passed < 5 else f"{span(passed)} ago"


def passed(at: float | None) -> float | None:
    """Seconds since then."""
    return None if at is None else time.time() - at


def moment(at: float | None) -> str:
    """2026-11-21 15:02 UTC."""
    return "-" if at is None else time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))


def short(value: float | None) -> str:
    """A count or a rate in a few characters: 512, 3.4k, 2.3M."""
    if value is None:
        return "-"
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e3 if unit == 'k' else limit):.3g}{unit}"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.2g}"


def signed(value: float | None, digits: int = 1) -> str:
    """A difference of shares, in points."""
    return "-" if value is None else f"{100 * value:+.{digits}f}"


FILTERS: dict[str, Any] = {
    "size": size, "span": span, "ago": ago, "passed": passed, "moment": moment, "short": short, "signed": signed,
}  # fmt: skip
"""By the names that templates call them."""
