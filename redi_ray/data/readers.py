"""Reading rows from files and the hub, in order, with the place each one comes from.

A row that cannot be read is passed on with its error. A file that cannot be read at all is an error, because a truncated
file hides an unknown number of rows.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from redi_ray import storage
from redi_ray.config.data import FilesSource, HubSource, OpenR1Source
from redi_ray.errors import UserError

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")


class DataError(UserError):
    """Input that cannot be used at all; the message says what, where and how to mend it."""


@dataclass(frozen=True)
class Row:
    """One input row. `value` is None where the row could not even be read; `error` then says why."""

    where: str
    value: dict[str, Any] | None
    error: str = ""
    raw: str = ""


def expand_paths(paths: list[str]) -> list[str]:
    """All data files that the paths name, folders opened, in order. Raises DataError if there are none."""
    files: list[str] = []
    for path in paths:
        if not storage.exists(path):
            raise DataError(f"problems.source.paths: {path} is not there")
        found = storage.list_files(path)
        # a file that is named outright is read or refused by its type; in a folder, other files are no concern of ours
        files.extend(found if found == [storage.resolve(path)] else [file for file in found if file.endswith(SUFFIXES)])
    if not files:
        raise DataError(
            "problems.source.paths is empty; name files or folders (on the command line: problems.source.paths=[FILE])"
        )
    return files


def source_rows(source: FilesSource | HubSource | OpenR1Source) -> Iterator[Row]:
    """All rows of a source, in order."""
    if isinstance(source, HubSource) or (isinstance(source, OpenR1Source) and not source.paths):
        yield from _hub_rows(source)
        return
    for uri in expand_paths(source.paths):
        yield from file_rows(uri)


def file_rows(uri: str) -> Iterator[Row]:
    """The rows of one Parquet, JSON lines or JSON list file."""
    name = uri.rsplit("/", 1)[-1]
    if name.endswith(".parquet"):
        yield from _parquet_rows(uri, name)
    elif name.endswith((".jsonl", ".jsonl.gz")):
        yield from _json_lines(uri, name)
    elif name.endswith((".json", ".json.gz")):
        yield from _json_list(uri, name)
    else:
        raise DataError(f"{uri}: unknown file type; expected one of {', '.join(SUFFIXES)}")


def _open(uri: str) -> io.BufferedIOBase:
    fs, path = storage.filesystem(uri)
    stream = fs.open_input_stream(path, compression=None)
    return gzip.GzipFile(fileobj=stream) if uri.endswith(".gz") else io.BufferedReader(stream)


def _parquet_rows(uri: str, name: str) -> Iterator[Row]:
    fs, path = storage.filesystem(uri)
    try:
        file = pq.ParquetFile(fs.open_input_file(path))
        number = 0
        for batch in file.iter_batches(batch_size=256):
            for value in batch.to_pylist():
                yield Row(f"{name}:{number}", value)
                number += 1
    except pa.ArrowException as error:
        raise DataError(f"{uri}: not a complete Parquet file, copy it again or leave it out ({error})") from error


def _json_lines(uri: str, name: str) -> Iterator[Row]:
    try:
        with _open(uri) as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield _json_row(f"{name}:{number}", line)
    except (EOFError, gzip.BadGzipFile) as error:
        raise DataError(f"{uri}: the gzip file is damaged or cut off, copy it again ({error})") from error


def _json_row(where: str, line: bytes) -> Row:
    try:
        value = json.loads(line)
    except ValueError as error:
        return Row(where, None, f"not JSON: {error}", line[:2000].decode(errors="replace"))
    if not isinstance(value, dict):
        return Row(
            where, None, f"expected an object, found {type(value).__name__}", line[:2000].decode(errors="replace")
        )
    return Row(where, value)


def _json_list(uri: str, name: str) -> Iterator[Row]:
    try:
        with _open(uri) as stream:
            values = json.load(stream)
    except (ValueError, EOFError) as error:
        raise DataError(f"{uri}: not valid JSON ({error}); for one object per line name it .jsonl") from error
    if not isinstance(values, list):
        raise DataError(f"{uri}: expected a JSON list of objects, found {type(values).__name__}")
    for number, value in enumerate(values):
        yield _json_row(f"{name}:{number}", json.dumps(value).encode())


def _hub_rows(source: HubSource | OpenR1Source) -> Iterator[Row]:
    import datasets

    subset = source.subset if isinstance(source, HubSource) else None
    split = source.split if isinstance(source, HubSource) else "train"
    try:
        rows = datasets.load_dataset(source.dataset, subset, split=split, revision=source.revision, streaming=True)
        for number, value in enumerate(rows):
            yield Row(f"{source.dataset}:{split}:{number}", dict(value))
    except (OSError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"{source.dataset}: the hub's data set cannot be loaded ({error}); without a network, set "
            "problems.source.paths to local files (kind: files or openr1)"
        ) from error
