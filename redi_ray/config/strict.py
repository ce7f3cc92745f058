"""What settings share: unknown keys are errors, and a condition that does not hold is a ValueError. Standard library only."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any

STRICT: dict[str, Any] = {"extra": "forbid", "allow_inf_nan": False}
"""What pydantic reads from `__pydantic_config__`: unknown keys are errors, numbers finite."""
_BROKEN: ContextVar[list[str] | None] = ContextVar("broken", default=None)
"""What does not hold so far, inside a check that is `told_together`."""


def require(condition: bool, message: str) -> None:
    if condition:
        return
    broken = _BROKEN.get()
    if broken is None:
        raise ValueError(message)
    broken.append(message)


def told_together(check: Callable[[Any], None]) -> Callable[[Any], None]:
    """The same `__post_init__`, whose conditions are looked at to the end: one ValueError tells all that do not hold.

    What fails behind a broken condition, since it counted on it, is not told.
    """

    @wraps(check)
    def checked(settings: Any) -> None:
        broken: list[str] = []
        before = _BROKEN.set(broken)
        try:
            check(settings)
        except Exception:
            if not broken:
                raise
        finally:
            _BROKEN.reset(before)
        if broken:
            raise ValueError("; ".join(broken))

    return checked
