"""Rows that no parser likes become rows with an error; rows that are not asked for are counted, not read."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from redi_ray.data.sources.readers import UNREAD, DataError, file_rows, first_columns

ROWS = [{"problem": f"p{index}", "answer": index} for index in range(3)]
LINES = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)
TABLE = pa.Table.from_pylist(ROWS)


def packed_by(name: str) -> Callable[[bytes], bytes]:
    def pack(data: bytes) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, name) as stream:
            stream.write(data)
        return sink.getvalue().to_pybytes()

    return pack


PACK = {
    ".gz": partial(gzip.compress, mtime=0),
    ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": packed_by("zstd"), ".lz4": packed_by("lz4")
}  # fmt: skip


def written(write: Callable[[pa.BufferOutputStream], None]) -> bytes:
    sink = pa.BufferOutputStream()
    write(sink)
    return sink.getvalue().to_pybytes()


def arrow(make: Callable[..., pa.ipc.RecordBatchStreamWriter]) -> bytes:
    def write(sink: pa.BufferOutputStream) -> None:
        with make(sink, TABLE.schema) as writer:
            writer.write_table(TABLE)

    return written(write)


PARQUET = written(lambda sink: pq.write_table(TABLE, sink))


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
        "", "holds half a surrogate pair, which is no text", "nested too deeply", "not UTF-8 (byte 0xff", "not JSON", "",
    ]  # fmt: skip
    assert rows[0].value == {"completion": "fine \U0001f600"}


def test_a_csv_of_a_spreadsheet_may_have_semicolons(tmp_path: Path):
    """Where commas are in numbers; a semicolon in a file with commas is text."""
    path = tmp_path / "x.csv"
    path.write_bytes(b'\xef\xbb\xbfproblem;answer\r\n"1;5 + 1, please";2,5\r\n')
    assert [row.value for row in file_rows(str(path))] == [{"problem": "1;5 + 1, please", "answer": "2,5"}]
    path.write_text("problem;old,answer\nx,2\n")
    assert [row.value for row in file_rows(str(path))] == [{"problem;old": "x", "answer": "2"}]


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


@pytest.mark.parametrize(
    ("name", "data"),
    [
        *((f"x.{kind}{suffix}", pack(LINES)) for suffix, pack in PACK.items() for kind in ("jsonl", "json")),
        *((f"x{suffix}.jsonl", pack(LINES)) for suffix, pack in PACK.items()),
        ("plain.jsonl.gz", LINES),
        ("parallel.jsonl.zst", b"\x50\x2a\x4d\x18\x04\0\0\0size" + PACK[".zst"](LINES)),
        ("parts.jsonl.gz", PACK[".gz"](LINES[:20]) + PACK[".gz"](LINES[20:])),
        ("x.ndjson", LINES),
        ("X.JSONL", LINES),
        ("no_suffix", LINES),
        ("lines.json", LINES),
        ("blank.json", b"\n\n" + LINES),
        ("bom.jsonl", b"\xef\xbb\xbf" + LINES),
        ("bom.json", b"\xef\xbb\xbf" + json.dumps(ROWS).encode()),
        ("list.jsonl", json.dumps(ROWS).encode()),
        ("pretty.jsonl", json.dumps(ROWS, indent=2).encode()),
        ("parquet.jsonl", PARQUET),
        ("stream.arrow", arrow(pa.ipc.new_stream)),
        ("file.arrow", arrow(pa.ipc.new_file)),
    ],
)  # fmt: skip
def test_a_file_is_read_by_what_it_holds(tmp_path: Path, name: str, data: bytes):
    """Whatever its name says, or packs."""
    path = tmp_path / name
    path.write_bytes(data)
    assert [row.value for row in file_rows(str(path))] == ROWS
    assert [row.value for row in file_rows(str(path), wanted=lambda position: position == 1)] == [None, ROWS[1], None]
    assert first_columns(str(path)) == ["problem", "answer"]


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        *((f"x.jsonl{suffix}", pack(LINES * 99)[:-5], "file is damaged or cut off") for suffix, pack in PACK.items()),
        ("x.jsonl", LINES.decode().encode("utf-16"), "is UTF-16 text; convert it to UTF-8"),
        ("x.jsonl", LINES.decode().encode("utf-16-le"), "UTF-16 or UTF-32 text, or no text"),
        ("x.jsonl", b"PK\x03\x04", "a zip archive; unpack it"),
        ("x.parquet", b"version https://git-lfs.github.com/spec/v1\n", "a pointer of git-lfs"),
        ("x.parquet.gz", gzip.compress(PARQUET), "a parquet file packed with gzip; unpack it"),
        ("x.json", b'{"data": [{"problem": "p"}]}', "found one dict with data; save the list that holds the rows"),
        ("x.json", b'{"problem": "p"}', "or if this is the only row name the file .jsonl"),
        ("x.jsonl.gz", gzip.compress(bz2.compress(LINES)), r"packed twice \(gzip, and bz2 inside\); unpack it once"),
        ("x.jsonl", b"\n<!doctype html>\n<html>", "a web page, not data"),
        ("x.txt", b"problem,answer\n", "unknown file type; what can be read is JSON lines"),
        ("x.csv", b'a,b\n1,"2\n', "not valid CSV behind line 1"),
        ("x.csv", "gr\u00f6\u00dfe,b\n1,2\n".encode("latin-1"), r"not UTF-8 \(byte 0xf6.*iconv -f WINDOWS-1252 -t UTF-8"),
        ("x.csv", "a,b\n1,\u00e9\n".encode("latin-1"), r"not UTF-8 \(byte 0xe9.*iconv"),
        ("x.json", '[{"a": "\u00e9"}]'.encode("latin-1"), r"not UTF-8 \(byte 0xe9.*iconv"),
        ("x.parquet", LINES, "not a complete Parquet file"),
        ("x.arrow", arrow(pa.ipc.new_file)[:99], "not a complete Arrow file"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_says_what_it_is(tmp_path: Path, name: str, data: bytes, told: str):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(DataError, match=told) as error:
        list(file_rows(str(path)))
    assert name in str(error.value)


def test_columns_of_rows_that_lack_some(tmp_path: Path):
    """JSON need not write what is null: the first row does not have every column."""
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\n{broken\n{"a": 1, "b": 2}\n{"c": 3}\n')
    assert first_columns(str(path)) == ["a", "b", "c"]
    assert first_columns(str(path), until=["b"]) == ["a", "b"]


def test_small_floats_and_classes_mean_what_was_written(tmp_path: Path):
    """0.1 of 32 bits is 0.1, and class 0 of `correct, incorrect` is correct."""
    features = {
        "ok": {"names": ["correct", "incorrect"], "_type": "ClassLabel"},
        "x": {"dtype": "float32", "_type": "Value"},
    }
    schema = pa.schema(
        [("ok", pa.int64()), ("x", pa.float32())], {"huggingface": json.dumps({"info": {"features": features}})}
    )
    pq.write_table(pa.table({"ok": [0, 1, None], "x": [0.1, None, 2.5]}, schema=schema), tmp_path / "x.parquet")
    assert [row.value for row in file_rows(str(tmp_path / "x.parquet"))] == [
        {"ok": "correct", "x": 0.1}, {"ok": "incorrect", "x": None}, {"ok": None, "x": 2.5}
    ]  # fmt: skip


CLASSES = {"names": ["correct", "incorrect"], "_type": "ClassLabel"}


@pytest.mark.parametrize(
    ("kind", "feature", "value", "meant"),
    [
        (pa.list_(pa.int64()), {"feature": CLASSES, "_type": "List"}, [0, 1, None], ["correct", "incorrect", None]),
        (pa.list_(pa.int64()), {"feature": CLASSES, "_type": "Sequence"}, [1], ["incorrect"]),
        (pa.list_(pa.int64()), [CLASSES], [0], ["correct"]),
        (pa.struct({"by": pa.int64()}), {"by": CLASSES}, {"by": 0}, {"by": "correct"}),
        (
            pa.list_(pa.struct({"by": pa.int64(), "x": pa.float32()})),
            {"feature": {"by": CLASSES, "x": {"dtype": "float32", "_type": "Value"}}, "_type": "List"},
            [{"by": 0, "x": 0.1}],
            [{"by": "correct", "x": 0.1}],
        ),
        (
            pa.struct({"by": pa.list_(pa.int64())}),
            {"feature": {"by": CLASSES}, "_type": "Sequence"},
            {"by": [0, 1]},
            {"by": ["correct", "incorrect"]},
        ),
        (pa.int64(), CLASSES, 7, 7),
        (pa.list_(pa.float32()), None, [0.1, None, 1e-5], [0.1, None, 1e-5]),
        (pa.large_list(pa.float32()), None, None, None),
        (pa.struct({"x": pa.float32()}), None, {"x": 0.1}, {"x": 0.1}),
    ],
)
def test_small_floats_and_classes_at_any_depth(tmp_path: Path, kind: pa.DataType, feature: Any, value: Any, meant: Any):
    """A label in a list or an object is one as well: number 0 of `correct, incorrect` is no vote for wrong."""
    noted = {"huggingface": json.dumps({"info": {"features": {"x": feature}}})}
    pq.write_table(
        pa.table({"x": pa.array([value], kind)}, schema=pa.schema([("x", kind)], noted)), tmp_path / "x.parquet"
    )
    (row,) = file_rows(str(tmp_path / "x.parquet"))
    assert row.value == {"x": meant}


def test_a_csv_file_with_pandas_own_numbers_of_rows(tmp_path: Path):
    (tmp_path / "a.csv").write_text(",q,a\n0,1+1,2\n1,,3\n2,x\n")
    first, second, third = file_rows(str(tmp_path / "a.csv"))
    assert (first.value, second.value) == ({"": "0", "q": "1+1", "a": "2"}, {"": "1", "q": None, "a": "3"})
    assert "not as many cells" in third.error


def test_two_columns_of_one_name_are_refused(tmp_path: Path):
    """Of a row only the last one's value would be left; columns without any name, as spreadsheets leave, say nothing."""
    (tmp_path / "x.csv").write_text("question,answer,answer\nq,1,2\n")
    pq.write_table(
        pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["answer", "answer"]), tmp_path / "x.parquet"
    )
    for name in ("x.csv", "x.parquet"):
        with pytest.raises(DataError, match=rf"{name}: two columns are named 'answer'; rename one"):
            list(file_rows(str(tmp_path / name)))
    (tmp_path / "y.csv").write_text("question,answer,,\nq,1,,\n")
    assert [row.value for row in file_rows(str(tmp_path / "y.csv"))] == [{"question": "q", "answer": "1", "": None}]
