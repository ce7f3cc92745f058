"""How the last command on a run ended, where that was not well: `<run>/last_error.json`, for whoever looks at the run later.

A command that ends well removes it. What is wrong with a config is told before there is a run, and is not kept.
"""

from __future__ import annotations

import socket
import time
from dataclasses import asdict, dataclass
from typing import Any

from redi_ray.store.storage import delete_file, exists, join, read_json, write_json

FILE = "last_error.json"
MOST_CHARACTERS = 20_000
"""Of a message that are kept."""


@dataclass(frozen=True)
class Ending:
    """Why a command ended before its work was done."""

    error: str
    """The message, which says how to mend it where a user can."""
    kind: str
    """Class of the error."""
    exit_code: int
    notes: tuple[str, ...] = ()
    """Such as the step at which it was raised."""
    host: str = ""
    at: float = 0.0
    """Seconds since 1970."""

    @classmethod
    def of(cls, error: BaseException, exit_code: int) -> Ending:
        """Of an error that is being raised."""
        notes = tuple(str(note) for note in getattr(error, "__notes__", ()))
        told = str(error)[:MOST_CHARACTERS] or type(error).__name__
        return cls(told, type(error).__name__, exit_code, notes, socket.gethostname(), time.time())


def write_ending(run_uri: str, ending: Ending) -> None:
    """Raises StorageError."""
    write_json(join(run_uri, FILE), asdict(ending))


def clear_ending(run_uri: str) -> None:
    """Raises StorageError."""
    delete_file(join(run_uri, FILE))


def read_ending(run_uri: str) -> Ending | None:
    """None where the last command ended well, or its file cannot be understood. Raises StorageError."""
    uri = join(run_uri, FILE)
    if not exists(uri):
        return None
    try:
        found: dict[str, Any] = read_json(uri)
        known = {name: found[name] for name in Ending.__dataclass_fields__ if name in found}
        return Ending(**{**known, "notes": tuple(known.get("notes", ()))})
    except (ValueError, TypeError, AttributeError):
        return None
