"""Samples of one prompt that lie in rows of their own, put together: by way of files, so that a set of any size finds room."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from redi_ray.data.sources.import_answers import Answered, Member
from redi_ray.schemas import MEMBER, MESSAGES

PART_BYTES = 64 << 20
"""Of the input, for each partition, which is held at a time."""
MOST_PARTS = 128
BUFFERED = 16
"""Rows of a partition in memory before they are written."""
SAMPLE = pa.schema(
    [
        pa.field("key", pa.binary(), nullable=False),
        pa.field("problem_id", pa.string()),
        pa.field("prompt", MESSAGES, nullable=False),
        pa.field("member", MEMBER, nullable=False),
    ]
)


class Samples:
    """Takes samples in any order; gives them back as groups, the samples of each in the order in which they came.

    A context manager: the files are gone behind it.
    """

    def __init__(self, sizes: Sequence[int] | None) -> None:
        """sizes: bytes of the input's files, None where they are not known."""
        self._parts = MOST_PARTS if sizes is None else max(1, min(MOST_PARTS, sum(sizes) // PART_BYTES))
        self._buffers: dict[int, list[dict[str, Any]]] = {}
        self._writers: dict[int, pq.ParquetWriter] = {}

    def __enter__(self) -> Samples:
        self._folder = tempfile.TemporaryDirectory()
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self._writers.values():
            with suppress(OSError):
                writer.close()
        self._folder.cleanup()

    def add(self, key: bytes, sample: Answered) -> None:
        """One sample. key: the same for all of its group."""
        part, (member,) = zlib.crc32(key) % self._parts, sample.members
        row = {"key": key, "problem_id": sample.problem_id, "prompt": sample.prompt, "member": member.as_row()}
        buffer = self._buffers.setdefault(part, [])
        buffer.append(row)
        if len(buffer) >= BUFFERED:
            self._flush(part)

    def __iter__(self) -> Iterator[Answered]:
        for part in sorted(self._buffers):
            self._flush(part)
            self._writers[part].close()
            yield from self._groups(part)

    def _flush(self, part: int) -> None:
        if part not in self._writers:
            self._writers[part] = pq.ParquetWriter(self._file(part), SAMPLE, compression="zstd")
        if rows := self._buffers[part]:
            self._writers[part].write_table(pa.Table.from_pylist(rows, schema=SAMPLE))
            self._buffers[part] = []

    def _groups(self, part: int) -> Iterator[Answered]:
        groups: dict[bytes, Answered] = {}
        for batch in pq.ParquetFile(self._file(part)).iter_batches(BUFFERED):
            for row in batch.to_pylist():
                told = row["member"]
                member = Member(told["turns"], told["side"], told["reward"], told["finished"], told["spans"])
                group = groups.setdefault(row["key"], Answered(row["prompt"], [], row["problem_id"]))
                group.members.append(member)
        yield from groups.values()

    def _file(self, part: int) -> Path:
        return Path(self._folder.name) / f"{part:03d}.parquet"
