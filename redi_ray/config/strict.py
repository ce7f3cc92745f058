"""What settings share: unknown keys are errors, and a condition that does not hold is a ValueError. Standard library only."""

from __future__ import annotations

from typing import Any

STRICT: dict[str, Any] = {"extra": "forbid", "allow_inf_nan": False, "use_attribute_docstrings": True}
"""What pydantic reads from `__pydantic_config__`: unknown keys are errors, numbers finite, attribute docstrings descriptions."""


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
