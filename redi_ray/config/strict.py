"""What settings share: unknown keys are errors, and a condition that does not hold is a ValueError. Standard library only."""

from __future__ import annotations

from typing import Any

STRICT: dict[str, Any] = {"extra": "forbid", "use_attribute_docstrings": True}
"""What pydantic reads from `__pydantic_config__`: unknown keys are errors, attribute docstrings are descriptions."""


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
