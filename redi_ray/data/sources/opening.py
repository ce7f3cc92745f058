"""Opening a data file by what it holds: its first bytes say how it is packed and what it is, whatever its name says."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from redi_ray.data.sources.folders import COMPRESSIONS, READABLE, SUFFIXES, DataError
from redi_ray.errors import StorageError, storage_errors
from redi_ray.store import storage

Kind = Literal["parquet", "arrow", "json", "csv", "tsv"]
PACKED = (
    (b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bz2"), (b"\xfd7zXZ\0", "xz"), (b"\x04\x22\x4d\x18", "lz4"),
)  # fmt: skip
"""First bytes, and how the file is packed."""
SKIPPED = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")
"""A frame without data, with which zstd begins a file that it packs in parallel."""
NO_DATA = (
    (b"PK\x03\x04", "a zip archive; unpack it"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it"),
    (b"Rar!", "a rar archive; unpack it"),
    (b"version https://git-lfs", "a pointer of git-lfs, not the file itself; fetch it with `git lfs pull`"),
    (b"<!DOCTYPE", "a web page, not data; download it again"),
    (b"<html", "a web page, not data; download it again"),
    (b"\xff\xfe", "UTF-16 text; convert it to UTF-8, such as with `iconv -f UTF-16 -t UTF-8`"),
    (b"\xfe\xff", "UTF-16 text; convert it to UTF-8, such as with `iconv -f UTF-16 -t UTF-8`"),
)
"""First bytes of what cannot be read, and what it is."""
ARROW_FILE, ARROW_STREAM = b"ARROW1", b"\xff\xff\xff\xff"
BOM = b"\xef\xbb\xbf"
HEAD = 64


class DamagedFile(DataError):
    """A file that is not whole; `kind` says of which sort."""

    def __init__(self, told: str, kind: str = "") -> None:  # pickle, and so Ray, gives the first alone
        super().__init__(told)
        self.kind = kind


@dataclass(frozen=True)
class Opened:
    """A data file: `stream` is unpacked, and stands at the file's beginning."""

    kind: Kind
    stream: io.BufferedReader


def open_data(uri: str) -> Opened:
    """Open a data file. Raises DataError if it is none, StorageError if it cannot be read."""
    fs, path = storage.filesystem(uri)
    with storage_errors("read", uri):
        stream = io.BufferedReader(fs.open_input_stream(path, compression=None))
        head = stream.peek(HEAD)[:HEAD]
    packed = _packed(head)
    if packed:
        with unpacking(uri):
            stream = io.BufferedReader(_unpacked(stream, packed))  # type: ignore[arg-type]  # NativeFile is a raw stream
            head = stream.peek(HEAD)[:HEAD]
    return Opened(_kind(uri, head, packed), stream)


def _packed(head: bytes) -> str:
    """How a file with these first bytes is packed; "" if it is not."""
    return next((how for magic, how in PACKED if head.startswith(magic)), "zstd" if SKIPPED.match(head) else "")


@contextmanager
def unpacking(uri: str) -> Iterator[None]:
    """Inside the block a file that is damaged or cut off is a DataError that names it."""
    try:
        yield
    except StorageError:
        raise
    except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        if isinstance(error, OSError) and (error.errno is not None or "AWS Error" in str(error)):
            raise  # the disk or the server, not what the file holds
        how = "gzip" if isinstance(error, gzip.BadGzipFile | zlib.error) or uri.endswith(".gz") else "packed"
        raise DamagedFile(f"{uri}: the {how} file is damaged or cut off, copy it again ({error})", how) from error


def _unpacked(stream: io.BufferedReader, packed: str) -> io.BufferedIOBase | pa.NativeFile:
    if packed == "gzip":
        return gzip.GzipFile(fileobj=stream)
    if packed == "bz2":
        return bz2.BZ2File(stream)
    if packed == "xz":
        return lzma.LZMAFile(stream)
    return pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), packed)


def _kind(uri: str, head: bytes, packed: str) -> Kind:
    """What a file is. Raises DataError where it is nothing that can be read."""
    for magic, told in NO_DATA:
        if head.lstrip().lower().startswith(magic.lower()):
            raise DataError(f"{uri} is {told}")
    if packed and (again := _packed(head)):
        raise DataError(f"{uri} is packed twice ({packed}, and {again} inside); unpack it once")
    name = uri.lower()
    table: Kind | None = None
    if head.startswith(b"PAR1") or name.endswith(".parquet"):
        table = "parquet"
    elif head.startswith((ARROW_FILE, ARROW_STREAM)) or name.endswith(".arrow"):
        table = "arrow"
    if table is not None:
        if packed:
            raise DataError(f"{uri} is a {table} file packed with {packed}; unpack it")
        return table
    text = head.removeprefix(BOM)
    if b"\0" in text[:4]:
        raise DataError(f"{uri} is UTF-16 or UTF-32 text, or no text; it must be UTF-8")
    if columned := re.search(rf"\.(csv|tsv)(?:{'|'.join(map(re.escape, COMPRESSIONS))})$", name):
        return "csv" if columned[1] == "csv" else "tsv"
    if not name.endswith(SUFFIXES) and text.lstrip()[:1] not in (b"{", b"[", b""):
        raise DataError(f"{uri}: unknown file type; what can be read is {READABLE}")
    return "json"
