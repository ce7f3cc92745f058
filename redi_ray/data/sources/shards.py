"""Writing tables as numbered Parquet shards, with rejects beside them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa

from redi_ray.schemas import REJECT
from redi_ray.store import parquet, storage

RAW_LIMIT = 4000
"""Characters kept of a rejected row."""
SHARD_BYTES = 64 << 20
"""Of large rows that are held until they are written."""
TOLD_LIMIT = 300
"""Characters of a detail in a message."""


class ShardWriter:
    """Buffers rows and writes `<uri>/part-00000.parquet`, `part-00001.parquet`, ... with the schema's types."""

    def __init__(self, uri: str, schema: pa.Schema, rows_per_shard: int = 2000) -> None:
        self.uri, self.schema, self.rows_per_shard = uri, schema, rows_per_shard
        self.count = 0
        self._buffer: list[dict[str, Any]] = []
        self._size = self._shards = 0

    def add(self, row: dict[str, Any], size: int = 0) -> None:
        """size: of a row that may be large, in bytes."""
        self._buffer.append(row)
        self.count += 1
        self._size += size
        if len(self._buffer) >= self.rows_per_shard or self._size >= SHARD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is buffered. An empty table still gets one (empty) shard, so that readers find its schema."""
        if self._buffer or not self._shards:
            table = pa.Table.from_pylist(self._buffer, schema=self.schema)
            parquet.write_table(storage.join(self.uri, f"part-{self._shards:05d}.parquet"), table)
            self._shards += 1
            self._buffer, self._size = [], 0


class RejectWriter:
    """Rows that do not fit, each with its reason, counted."""

    def __init__(self, uri: str) -> None:
        self._shards = ShardWriter(uri, REJECT)
        self.reasons: Counter[str] = Counter()
        self.first: dict[str, str] = {}
        """Reason -> place and detail of the first row that was rejected for it."""

    def add(self, where: str, reason: str, detail: str = "", raw: Any = "") -> None:
        self.reasons[reason] += 1
        self.first.setdefault(reason, f"{where}: {detail[:TOLD_LIMIT]}")
        self._shards.add(reject_row(where, reason, detail, raw))

    def flush(self) -> None:
        self._shards.flush()


def reject_row(where: str, reason: str, detail: str = "", raw: Any = "") -> dict[str, str]:
    """A row of REJECT."""
    text = raw if isinstance(raw, str) else repr(raw)
    return {"where": where, "reason": reason, "detail": detail[:RAW_LIMIT], "raw": text[:RAW_LIMIT]}
