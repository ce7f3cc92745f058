"""What of a section decides an output, and what only how it is made.

A settings class names, in a class variable `HOW`, the fields that change how the work is done and never what comes out: numbers
of workers, caches, batches of an engine. All other fields are part of a step's key; those that it names in `LATER` only where
they differ from their default, which means what the class meant before it had them: outputs from before stay.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, asdict, fields, is_dataclass
from typing import Any

from pydantic import BaseModel


def identity(value: Any) -> Any:
    """A section as plain values, without the fields in `HOW` at any depth. A class with a method `identity` is asked instead."""
    if isinstance(value, BaseModel):
        kinds = type(value).model_fields
        return _of(value, list(kinds), lambda name: kinds[name].get_default(call_default_factory=True))
    if is_dataclass(value) and not isinstance(value, type):
        own = {field.name: field for field in fields(value)}
        return _of(value, list(own), lambda name: _default(own[name]))
    if isinstance(value, Mapping):
        return {str(name): identity(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [identity(item) for item in value]
    return str(value) if isinstance(value, datetime.date) else value


def plain(section: Any) -> dict[str, Any]:
    """A section as plain values, all of them."""
    return section.model_dump() if isinstance(section, BaseModel) else asdict(section)


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _of(section: Any, names: list[str], default: Callable[[str], Any]) -> Any:
    if (own := getattr(section, "identity", None)) is not None:
        return own()
    how: frozenset[str] = getattr(section, "HOW", frozenset())
    later: frozenset[str] = getattr(section, "LATER", frozenset())
    values = {name: getattr(section, name) for name in names if name not in how}
    return {name: identity(value) for name, value in values.items() if name not in later or value != default(name)}
