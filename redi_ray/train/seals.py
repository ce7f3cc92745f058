"""Sums of files, and the list of them that seals a checkpoint."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def checksum(path: Path) -> dict[str, Any]:
    """`sha256` and `bytes` of a file."""
    with path.open("rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "bytes": path.stat().st_size}


def read_seal(raw: bytes) -> dict[str, Any] | None:
    """The content of a `files.json`, None if it is damaged."""
    try:
        content = json.loads(raw)
        return content if content.pop("sha256") == _sum(content) else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def write_seal(path: Path, content: Mapping[str, Any]) -> None:
    """Write `files.json` with its own sum, atomically and through to the disk."""
    content = json.loads(json.dumps(content))  # as it will be read: the sum must not depend on tuples or int keys
    temporary = path.with_suffix(".tmp")
    with temporary.open("w") as file:
        json.dump({**content, "sha256": _sum(content)}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _sum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
