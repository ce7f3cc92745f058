"""Checkpoints in object storage. Apart from `stores.py` because it needs pyarrow."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa

from redi_ray.store import storage
from redi_ray.train.stores import SEAL, CheckpointStore, LocalStore


def make_store(out_uri: str, scratch: Path) -> CheckpointStore:
    """The checkpoints' place below `out_uri`."""
    root = storage.join(out_uri, "checkpoints")
    return UriStore(root, scratch / "checkpoints") if root.startswith("s3://") else LocalStore(root)


class UriStore:
    """Checkpoints in object storage: written to a local folder and uploaded, downloaded before they are read.

    Implements `redi_ray.train.stores.CheckpointStore`.
    """

    def __init__(self, root: str, scratch: Path) -> None:
        self.root, self.scratch = root, scratch

    def names(self) -> list[str]:
        prefix = len(self.root) + 1
        return sorted({uri[prefix:].split("/")[0] for uri in storage.list_files(self.root)})

    def workspace(self, name: str) -> Path:
        folder = self.scratch / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def publish(self, name: str, file: str) -> None:
        """Upload, then free the local copy: a checkpoint may fill a small disk."""
        path = self.scratch / name / file
        with pa.memory_map(str(path)) as mapped:
            storage.write_bytes(storage.join(self.root, name, file), mapped.read_buffer())
        path.unlink()

    def seal(self, name: str) -> bytes | None:
        uri = storage.join(self.root, name, SEAL)
        return storage.read_bytes(uri) if storage.exists(uri) else None

    def fetch(self, name: str, first_on_node: bool) -> Path:
        folder = self.scratch / name
        if first_on_node:
            shutil.rmtree(folder, ignore_errors=True)
            storage.download(storage.join(self.root, name), folder)
        return folder

    def remove(self, name: str) -> None:
        storage.delete(storage.join(self.root, name))
