"""How Parquet files are laid out, kept: on S3 each footer is a question of its own, asked again for every page."""

from __future__ import annotations

from threading import Lock

import pyarrow.parquet as pq

from redi_ray.store.storage import File

KEPT_BYTES = 32 << 20
"""Of footers, as they lie in their files."""


class Footers:
    """Those of the files that were opened last. Files do not change once they are there: a new one has another size or time."""

    def __init__(self, most: int = KEPT_BYTES) -> None:
        self._most, self._held = most, 0
        self._of: dict[File, pq.FileMetaData] = {}
        self._lock = Lock()

    def get(self, file: File) -> pq.FileMetaData | None:
        """None where it is not known."""
        with self._lock:
            return self._of.get(file)

    def keep(self, file: File, footer: pq.FileMetaData) -> None:
        """What was kept longest goes for it."""
        with self._lock:
            if file in self._of:
                return
            self._of[file] = footer
            self._held += footer.serialized_size
            while self._held > self._most:
                self._held -= self._of.pop(next(iter(self._of))).serialized_size


FOOTERS = Footers()
