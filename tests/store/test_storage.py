"""Files appear whole or not at all, locally and on S3."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from redi_ray.store import parquet, storage


def test_files_round_trip(root: str, tmp_path: Path):
    storage.write_json(f"{root}/a/b.json", {"x": 1})
    parquet.write_table(f"{root}/a/part-0.parquet", pa.table({"id": [1, 2]}))
    assert storage.read_json(f"{root}/a/b.json") == {"x": 1}
    assert storage.list_files(root, ".parquet") == [f"{root}/a/part-0.parquet"]
    assert next(parquet.read_tables([f"{root}/a/part-0.parquet"]))["id"].to_pylist() == [1, 2]
    assert storage.read_tail(f"{root}/a/b.json", 3) == b"1\n}"
    assert storage.exists(f"{root}/a/b.json")
    assert storage.exists(f"{root}/a")
    assert not storage.exists(f"{root}/c")
    storage.download(f"{root}/a", tmp_path / "copy")
    storage.upload(tmp_path / "copy", f"{root}/again")
    assert len(storage.list_files(f"{root}/again")) == 2
    storage.delete(f"{root}/again")
    storage.delete(f"{root}/again")  # not there: fine
    assert storage.list_files(f"{root}/again") == []


def test_large_files_are_copied_by_pieces(root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of any size, also none; a folder on S3 is at hand on disk for a while, one on disk is itself."""
    monkeypatch.setattr(storage, "PIECE", 7)
    for size in (0, 7, 20):
        (tmp_path / "file").write_bytes(bytes(range(size)))
        storage.copy_in(tmp_path / "file", f"{root}/in/copied-{size}")
        storage.copy_out(f"{root}/in/copied-{size}", tmp_path / "deep" / "back")
        assert (tmp_path / "deep" / "back").read_bytes() == bytes(range(size))
    with storage.at_hand(f"{root}/in") as folder:
        assert (folder / "copied-20").read_bytes() == bytes(range(20))
    assert folder.exists() != root.startswith("s3://")
    with pytest.raises(storage.StorageError, match="it is not there"):
        storage.copy_out(f"{root}/in/none", tmp_path / "back")


def test_a_half_written_file_is_not_listed(tmp_path: Path):
    (tmp_path / "part-0.parquet.1234.tmp").write_bytes(b"half")
    assert storage.list_files(str(tmp_path)) == []


def test_an_unknown_scheme_is_named():
    with pytest.raises(storage.StorageError, match="unknown scheme"):
        storage.read_bytes("gs://bucket/x")
