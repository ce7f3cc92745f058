"""Python values between processes that do not trust each other, as JSON: what a value is, never an object of the other side's.

None, booleans, numbers, text and lists stand as they are; the rest is an object of one key that says what it is. A subclass
counts as what it extends, numpy's scalars and arrays as numbers and lists.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

LONG = 10**4000
"""From here on integers are written in hexadecimal, which is read in time that grows with their length alone."""


class Unreadable(ValueError):
    """A value that cannot be said, or a text that says none."""


def encode(value: Any, handle: Callable[[Any], int] | None = None) -> str:
    """A value as text. handle: gives what cannot be said a number, by which the other side can name it. Raises Unreadable."""
    try:
        return json.dumps(_plain(value, handle))
    except (RecursionError, ValueError, TypeError) as error:
        raise Unreadable(f"a value of type {type(value).__name__} cannot be said: {error}"[:300]) from None


def decode(text: str | bytes, remote: Callable[[int], Any] | None = None) -> Any:
    """The value of a text. remote: what stands for a value with this number. Raises Unreadable."""
    try:
        return _value(json.loads(text), remote)
    except (RecursionError, ValueError, TypeError, KeyError, ArithmeticError, InvalidOperation) as error:
        raise Unreadable(f"no value: {error}"[:300]) from None


def _plain(value: Any, handle: Callable[[Any], int] | None) -> Any:
    if value is None or isinstance(value, bool):
        return value
    for kind, write in _WRITERS:
        if isinstance(value, kind):
            return write(value, lambda item: _plain(item, handle))
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return _plain(value.tolist(), handle)
    if handle is None:
        raise Unreadable(f"a value of type {type(value).__name__}")
    return {"remote": handle(value)}


def _integer(value: int) -> Any:
    number = int(value)
    return number if -LONG < number < LONG else {"hex": hex(number)}


_WRITERS: tuple[tuple[type | tuple[type, ...], Callable[[Any, Callable[[Any], Any]], Any]], ...] = (
    (int, lambda value, each: _integer(value)),
    (float, lambda value, each: float(value) if math.isfinite(value) else {"float": str(float(value))}),
    (str, lambda value, each: str.__str__(value)),
    (list, lambda value, each: [each(item) for item in value]),
    (tuple, lambda value, each: {"tuple": [each(item) for item in value]}),
    (dict, lambda value, each: {"dict": [[each(key), each(item)] for key, item in value.items()]}),
    (set, lambda value, each: {"set": [each(item) for item in value]}),
    (frozenset, lambda value, each: {"frozenset": [each(item) for item in value]}),
    ((bytes, bytearray), lambda value, each: {"bytes": bytes(value).hex()}),
    (complex, lambda value, each: {"complex": [each(value.real), each(value.imag)]}),
    (Fraction, lambda value, each: {"fraction": [each(value.numerator), each(value.denominator)]}),
    (Decimal, lambda value, each: {"decimal": str(value)}),
    (deque, lambda value, each: {"deque": [each(item) for item in value]}),
)


def _value(plain: Any, remote: Callable[[int], Any] | None) -> Any:
    if isinstance(plain, list):
        return [_value(item, remote) for item in plain]
    if not isinstance(plain, dict):
        return plain
    ((kind, told),) = plain.items()
    if kind == "remote" and remote is not None:
        return remote(int(told))
    if kind == "dict":
        return {_value(key, remote): _value(item, remote) for key, item in told}
    if kind in _MADE_OF_ITEMS:
        return _MADE_OF_ITEMS[kind]([_value(item, remote) for item in told])
    return _READERS[kind](told)


_MADE_OF_ITEMS: dict[str, Callable[[list[Any]], Any]] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "deque": deque,
    "complex": lambda parts: complex(*parts),
    "fraction": lambda parts: Fraction(*parts),
}
_READERS: dict[str, Callable[[str], Any]] = {
    "hex": lambda told: int(told, 16),
    "float": float,
    "bytes": bytes.fromhex,
    "decimal": Decimal,
}
