"""Where checkpoints are kept: the interface, and a folder on a disk that all ranks see.

`redi_ray.train.on_ray.uri_store` has the one for object storage, which needs pyarrow; the core does without.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Protocol

SEAL = "files.json"
"""Written last: without it a folder is no checkpoint."""


class CheckpointStore(Protocol):
    """Where checkpoints are kept. Ranks on one node share the local folders it hands out."""

    def names(self) -> list[str]:
        """All folders below the root, complete or not."""
        ...

    def workspace(self, name: str) -> Path:
        """A local folder for writing a new checkpoint's files."""
        ...

    def publish(self, name: str, file: str) -> None:
        """Make a file of the workspace part of the stored checkpoint, whole or not at all."""
        ...

    def seal(self, name: str) -> bytes | None:
        """The bytes of its `files.json`, None if there is none."""
        ...

    def fetch(self, name: str, first_on_node: bool) -> Path:
        """A local folder with the checkpoint's files; one rank of each node fills it, before a barrier."""
        ...

    def remove(self, name: str) -> None: ...


class LocalStore:
    """A folder on a disk that all ranks see: workspace and store are one, so nothing is ever copied."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    def names(self) -> list[str]:
        return [p.name for p in self.root.iterdir() if p.is_dir()] if self.root.is_dir() else []

    def workspace(self, name: str) -> Path:
        (self.root / name).mkdir(parents=True, exist_ok=True)
        return self.root / name

    def publish(self, name: str, file: str) -> None:
        pass

    def seal(self, name: str) -> bytes | None:
        path = self.root / name / SEAL
        return path.read_bytes() if path.exists() else None

    def fetch(self, name: str, first_on_node: bool) -> Path:
        return self.root / name

    def remove(self, name: str) -> None:
        shutil.rmtree(self.root / name, ignore_errors=True)
