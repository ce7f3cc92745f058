"""Rows that no parser likes become rows with an error; rows that are not asked for are counted, not read."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from redi_ray.data.readers import UNREAD, DataError, file_rows, first_columns


def test_hostile_json_lines(tmp_path: Path):
    """Half a surrogate pair, nesting without end, bytes that are no text, a number of many digits: one bad row each."""
    lines = [
        rb'{"completion": "fine \ud83d\ude00"}',
        rb'{"completion": "half \ud83d"}',
        b"[" * 200_000,
        b'{"completion": "\xff"}',
        b'{"answer": ' + b"7" * 5000 + b"}",
        b'{"completion": "\\u0000\x7f"}',
    ]
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\n".join(lines))
    rows = list(file_rows(str(path)))
    assert [row.where for row in rows] == [f"x.jsonl:{number}" for number in range(1, 7)]
    assert [row.error.split(":")[0] for row in rows] == [
        "", "holds half a surrogate pair, which is no text", "nested too deeply", "not JSON", "not JSON", "",
    ]  # fmt: skip
    assert rows[0].value == {"completion": "fine \U0001f600"}


def test_parquet_text_that_is_no_utf8(tmp_path: Path):
    """One broken value costs one row, not the file."""
    text = pa.StringArray.from_buffers(3, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0"), pa.py_buffer(b"a\xffb"))
    pq.write_table(pa.table({"problem": text}), tmp_path / "x.parquet")
    rows = list(file_rows(str(tmp_path / "x.parquet")))
    assert [row.value for row in rows] == [{"problem": "a"}, None, {"problem": "b"}]
    assert rows[1].error.startswith("not UTF-8")


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".json", ".parquet"])
def test_rows_that_are_not_wanted_keep_their_places(tmp_path: Path, suffix: str):
    path = tmp_path / f"x{suffix}"
    values = [{"number": number, "text": str(number)} for number in range(10)]
    lines = "\n\n".join(map(json.dumps, values)).encode()
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(values), path, row_group_size=3)
    else:
        path.write_bytes(
            {".jsonl": lines, ".jsonl.gz": gzip.compress(lines), ".json": json.dumps(values).encode()}[suffix]
        )
    rows = list(file_rows(str(path), name="a/x", wanted=lambda position: position in (4, 9)))
    assert len(rows) == 10
    assert [(place, row.value) for place, row in enumerate(rows) if row is not UNREAD] == [
        (4, values[4]),
        (9, values[9]),
    ]
    assert all(row.where.startswith("a/x:") for row in rows if row is not UNREAD)
    assert first_columns(str(path)) == ["number", "text"]


def test_a_column_suffices(tmp_path: Path):
    pq.write_table(pa.table({"a": [1], "b": ["long"]}), tmp_path / "x.parquet")
    assert [row.value for row in file_rows(str(tmp_path / "x.parquet"), columns={"a", "none"})] == [{"a": 1}]


def test_a_damaged_gzip_stream_is_named(tmp_path: Path):
    """A flipped bit inside the stream, not only a cut-off end."""
    data = bytearray(gzip.compress(b'{"a": 1}\n' * 10_000))
    data[60] ^= 0xFF
    (tmp_path / "x.jsonl.gz").write_bytes(data)
    with pytest.raises(DataError, match=r"x\.jsonl\.gz: the gzip file is damaged"):
        list(file_rows(str(tmp_path / "x.jsonl.gz")))
