"""Parquet files are read and written a piece at a time."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from redi_ray.store import parquet


def test_row_groups_and_batches_are_bounded_by_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard of long traces is neither written nor read as one piece."""
    monkeypatch.setattr(parquet, "BATCH_BYTES", 10_000)
    uri, rows = f"{tmp_path}/long.parquet", [{"id": n, "text": f"{n}" * 1000} for n in range(100)]
    parquet.write_table(uri, pa.Table.from_pylist(rows))
    assert pq.read_metadata(uri).num_row_groups > 10
    batches = list(parquet.read_batches(uri))
    assert max(batch.nbytes for batch in batches) < 30_000
    assert [row for batch in batches for row in batch.to_pylist()] == rows
    assert len(list(parquet.read_batches(uri, ["id"]))) == 1, "small columns come together"
    assert [(n, row["id"]) for n, row in parquet.read_rows(uri, [70, 3, 99], ["id"])] == [(3, 3), (70, 70), (99, 99)]
