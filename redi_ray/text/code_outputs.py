"""Whether what a solution has printed or given is what is expected, compared as judges do, apart from the solution."""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Sequence
from typing import Any

from redi_ray.config.code import CodeSettings

DECIMAL = re.compile(r"[+-]?(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][+-]?\d+)?")
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
SHOWN = 60


def output_fault(said: str, expected: str, settings: CodeSettings) -> str | None:
    """Where what was printed differs from what is expected; None where it does not."""
    if settings.compare == "lines":
        return _differing(_lines(said), _lines(expected), "line", settings.tolerance)
    return _differing(said.split(), expected.split(), "word", settings.tolerance)


def _lines(text: str) -> list[str]:
    lines = [line.rstrip() for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _differing(said: Sequence[str], expected: Sequence[str], unit: str, tolerance: float | None) -> str | None:
    for place, (one, other) in enumerate(zip(said, expected, strict=False), start=1):
        if one != other and not _same_words(one, other, tolerance):
            return f"{unit} {place} is {one[:SHOWN]!r}, expected {other[:SHOWN]!r}"
    if len(said) != len(expected):
        return f"{len(said)} {unit}s, expected {len(expected)}"
    return None


def _same_words(said: str, expected: str, tolerance: float | None) -> bool:
    """The same but for the last digits of numbers. A line may have several words."""
    if tolerance is None:
        return False
    found, wanted = said.split(), expected.split()
    return len(found) == len(wanted) and all(
        one == other or _near(one, other, tolerance) for one, other in zip(found, wanted, strict=True)
    )


def _near(said: str, expected: str, tolerance: float) -> bool:
    if DECIMAL.fullmatch(expected) is None or NUMBER.fullmatch(said) is None:
        return False
    return close(float(said), float(expected), tolerance)


def close(found: float, expected: float, tolerance: float) -> bool:
    """Within the tolerance, absolutely or relative to what is expected; not a number is close to nothing."""
    if not (math.isfinite(found) and math.isfinite(expected)):
        return found == expected
    return abs(found - expected) <= tolerance * max(1.0, abs(expected))


def same_value(found: Any, expected: Any, tolerance: float | None) -> bool:
    """Whether a function gave what is expected. Lists, tuples and deques are the same; floats may differ within the tolerance.

    expected: as JSON says it. Never raises.
    """
    try:
        return _same(found, expected, tolerance)
    except (RecursionError, ArithmeticError, ValueError, TypeError):
        return False


def _same(found: Any, expected: Any, tolerance: float | None) -> bool:
    if isinstance(found, list | tuple | deque) and isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(
            _same(one, other, tolerance) for one, other in zip(found, expected, strict=True)
        )
    if isinstance(found, dict) and isinstance(expected, dict):
        if len(found) != len(expected):
            return False
        named = {str(key) if isinstance(key, int | float) else key: value for key, value in found.items()}
        return named.keys() == expected.keys() and all(
            _same(named[key], value, tolerance) for key, value in expected.items()
        )
    numbers = isinstance(found, float | int) and isinstance(expected, float | int)
    if numbers and tolerance is not None and float in (type(found), type(expected)):
        return close(float(found), float(expected), tolerance)
    return bool(found == expected)
