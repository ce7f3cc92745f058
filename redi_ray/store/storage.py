"""URIs and atomic files.

Every location is a URI string: a local path or `s3://bucket/prefix`. pyarrow's filesystems do the work, so one
environment (AWS_ENDPOINT_URL, AWS_REGION, credentials) serves us, Ray and pyarrow alike. A file appears whole or not at
all: locally it is written beside its place and renamed, on S3 an object is visible only once its upload is complete.

What fails is tried again where that may help (`redi_ray.store.s3`), and then is a StorageError that says what, where and why.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.fs as pafs

from redi_ray.errors import StorageError, storage_errors
from redi_ray.store import s3

LOCK = "run.lock"
"""A driver's lock on its run, see `redi_ray.store.lock`; no output, so it is not listed."""
PIECE = 8 << 20
"""Bytes of a file in memory at a time."""


def filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """The pyarrow filesystem of `uri` and the path inside it."""
    if uri.startswith("s3://"):
        return s3.filesystem(), uri[len("s3://") :].rstrip("/")
    if "://" in uri and not uri.startswith("file://"):
        raise StorageError(f"{uri}: unknown scheme; use a local path or s3://bucket/prefix")
    return pafs.LocalFileSystem(), os.path.abspath(uri.removeprefix("file://"))


def resolve(uri: str) -> str:
    """`uri` with a local path made absolute, so that workers on this machine with another working directory find it."""
    return uri if uri.startswith("s3://") else filesystem(uri)[1]


def join(uri: str, *parts: str) -> str:
    return "/".join([uri.rstrip("/"), *parts])


def exists(uri: str) -> bool:
    fs, path = filesystem(uri)
    with storage_errors("read", uri):
        return fs.get_file_info(path).type != pafs.FileType.NotFound


def read_bytes(uri: str) -> bytes:
    """A whole file, .gz files as they are."""
    fs, path = filesystem(uri)
    with storage_errors("read", uri), fs.open_input_file(path) as file:
        size = file.size()
        data = file.read(size)
        if len(data) != size:
            raise OSError(f"{len(data)} bytes came instead of {size}")
        return data


def read_head(uri: str, size: int) -> tuple[bytes, int]:
    """The first `size` bytes of a file, and how many it has."""
    fs, path = filesystem(uri)
    with storage_errors("read", uri), fs.open_input_file(path) as file:
        return file.read_at(size, 0), file.size()


def read_tail(uri: str, size: int) -> bytes:
    """The last `size` bytes of a file."""
    fs, path = filesystem(uri)
    with storage_errors("read", uri), fs.open_input_file(path) as file:
        length = file.size()
        return file.read_at(min(size, length), max(0, length - size))


def write_bytes(uri: str, data: bytes | memoryview | pa.Buffer) -> None:
    """Write a whole file atomically, replacing one that is there. If it fails, nothing of it is left."""
    fs, path = filesystem(uri)
    with storage_errors("written", uri):
        if isinstance(fs, pafs.LocalFileSystem):
            _write_local(path, data)
            return
        with fs.open_output_stream(path) as stream:
            stream.write(data)


def _write_local(path: str, data: bytes | memoryview | pa.Buffer) -> None:
    with _written_whole(path) as file:
        file.write(data)


@contextmanager
def _written_whole(path: str) -> Iterator[BinaryIO]:
    """A file that takes its place once all of it is on the disk; if that fails, nothing of it is left."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    temporary = f"{path}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def check_writable(uri: str) -> None:
    """Write, read and delete a small file below `uri`, so that what is wrong with it shows before the work begins."""
    probe, content = join(uri, f"probe-{uuid.uuid4().hex[:8]}.tmp"), uuid.uuid4().bytes
    write_bytes(probe, content)
    try:
        if read_bytes(probe) != content:
            raise StorageError(
                f"{uri}: a file that was just written reads differently; check the disk or the S3 server"
            )
    finally:
        delete_file(probe)


def read_json(uri: str) -> Any:
    """What a JSON file holds. Raises StorageError, for one that is damaged, too."""
    data = read_bytes(uri)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise StorageError(
            f"{uri}: damaged, this is no JSON ({error}); copy it again, or delete it and run the command that has made it"
        ) from error


def write_json(uri: str, value: Any) -> None:
    write_bytes(uri, json.dumps(value, indent=1, ensure_ascii=False).encode())


@dataclass(frozen=True)
class File:
    """A file as it was when it was listed."""

    uri: str
    size: int
    modified: int
    """Nanoseconds since 1970."""


def list_infos(uri: str, suffix: str = "") -> list[File]:
    """All files below `uri` (none if it is not there), sorted, half-written ones and locks left out."""
    fs, path = filesystem(uri)
    prefix = "s3://" if uri.startswith("s3://") else ""
    with storage_errors("listed", uri):
        infos = [fs.get_file_info(path)]
        if infos[0].type != pafs.FileType.File:
            below = fs.get_file_info(pafs.FileSelector(path, recursive=True, allow_not_found=True))
            infos = [info for info in below if not info.path.endswith((".tmp", f"/{LOCK}"))]
    files = [info for info in infos if info.type == pafs.FileType.File and info.path.endswith(suffix)]
    listed = [File(prefix + info.path, info.size or 0, info.mtime_ns or 0) for info in files]
    return sorted(listed, key=lambda file: file.uri)


def list_files(uri: str, suffix: str = "") -> list[str]:
    """URIs of the same files."""
    return [file.uri for file in list_infos(uri, suffix)]


def file_sizes(uris: list[str]) -> list[int]:
    """Bytes of each file, 0 where there is none. The files lie in one place: all local, or all on S3."""
    if not uris:
        return []
    fs, _ = filesystem(uris[0])
    with storage_errors("read", uris[0]):
        return [info.size or 0 for info in fs.get_file_info([filesystem(uri)[1] for uri in uris])]


def copy_in(path: str | Path, uri: str) -> None:
    """Write a local file to `uri`, whole or not at all, a piece in memory at a time."""
    fs, target = filesystem(uri)
    with storage_errors("written", uri), open(path, "rb") as source:
        if isinstance(fs, pafs.LocalFileSystem):
            with _written_whole(target) as file:
                shutil.copyfileobj(source, file, PIECE)
            return
        size = os.fstat(source.fileno()).st_size
        try:
            with fs.open_output_stream(target) as stream:
                shutil.copyfileobj(source, stream, PIECE)
        except BaseException:
            if source.tell() < size:  # closing the stream has made a file of what came so far
                with suppress(OSError):
                    fs.delete_file(target)
            raise


def copy_out(uri: str, path: str | Path) -> None:
    """Copy a file, local or on S3, to a local place, a piece in memory at a time."""
    fs, source = filesystem(uri)
    with storage_errors("written", str(path)):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file, storage_errors("read", uri), fs.open_input_file(source) as stream:
            size = stream.size()
            for start in range(0, size, PIECE):
                piece = stream.read_at(min(PIECE, size - start), start)
                if len(piece) != min(PIECE, size - start):
                    raise OSError(f"{start + len(piece)} bytes came instead of {size}")
                with storage_errors("written", str(path)):
                    file.write(piece)


def upload(local: str | Path, uri: str) -> None:
    """Copy a local folder to `uri`, file by file, each atomically."""
    root = Path(local)
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        copy_in(path, join(uri, path.relative_to(root).as_posix()))


def download(uri: str, local: str | Path) -> None:
    """Copy every file below `uri` into the local folder."""
    prefix = uri.rstrip("/") if uri.startswith("s3://") else filesystem(uri)[1]
    files = list_files(uri)
    if not files:
        raise StorageError(f"{uri}: nothing is there")
    for file in files:
        copy_out(file, Path(local) / file[len(prefix) + 1 :])


@contextmanager
def at_hand(uri: str) -> Iterator[Path]:
    """A local folder with what is below `uri`: the folder itself, or for the block a copy of what is on S3, on disk."""
    if not uri.startswith("s3://"):
        yield Path(filesystem(uri)[1])
        return
    with tempfile.TemporaryDirectory() as folder:
        download(uri, folder)
        yield Path(folder)


def delete(uri: str) -> None:
    """Delete a folder, if it is there."""
    fs, path = filesystem(uri)
    with storage_errors("deleted", uri):
        if fs.get_file_info(path).type != pafs.FileType.NotFound:
            fs.delete_dir(path)


def delete_file(uri: str) -> None:
    """Delete one file, if it is there."""
    fs, path = filesystem(uri)
    with storage_errors("deleted", uri):
        if fs.get_file_info(path).type == pafs.FileType.File:
            fs.delete_file(path)


def content_hash(value: Any) -> str:
    """SHA-256 of a JSON-able value, independent of key order; 64 hex digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def finite(value: Any) -> Any:
    """The same value with NaN and infinities as None, which JSON has no other word for."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
