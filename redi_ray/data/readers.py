"""Reading rows from files and the hub, in order, with the place each one comes from.

A row that cannot be read is passed on with its error. A file that cannot be read at all is an error, because a truncated
file hides an unknown number of rows.
"""

from __future__ import annotations

import gzip
import io
import itertools
import json
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from redi_ray import storage
from redi_ray.config.data import FilesSource, HubSource, OpenR1Source
from redi_ray.errors import UserError, storage_errors

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


UNREAD = Row("", None)
"""Stands in for a row that was not asked for."""
Wanted = Callable[[int], bool]
"""Whether the row at a position (0, 1, ...) is asked for."""


def expand_paths(paths: list[str], told: str = "problems.source.paths") -> list[str]:
    """All data files that the paths name, folders opened, in order. `told` is what the user calls the paths.

    Raises DataError if there are none.
    """
    files: list[str] = []
    for path in paths:
        if not storage.exists(path):
            raise DataError(f"{told}: {path} is not there")
        found = storage.list_files(path)
        # a file that is named outright is read or refused by its type; in a folder, other files are no concern of ours
        files.extend(found if found == [storage.resolve(path)] else [file for file in found if file.endswith(SUFFIXES)])
    if not files:
        example = "problems.source.paths=[FILE]" if told == "problems.source.paths" else f"{told} FILE"
        raise DataError(
            f"{told} is empty; name files or folders with {', '.join(SUFFIXES)} (on the command line: {example})"
        )
    return files


def source_rows(source: FilesSource | HubSource | OpenR1Source) -> Iterator[Row]:
    """All rows of a source, in order."""
    if isinstance(source, HubSource) or (isinstance(source, OpenR1Source) and not source.paths):
        yield from _hub_rows(source)
        return
    for uri in expand_paths(source.paths):
        yield from file_rows(uri)


def file_rows(
    uri: str, *, name: str = "", columns: Collection[str] | None = None, wanted: Wanted | None = None
) -> Iterator[Row]:
    """The rows of one Parquet, JSON lines or JSON list file; UNREAD for those that are not `wanted`, which costs little.

    name: what the file is called in `Row.where`, its own name by default. columns: top-level columns that suffice.
    Raises DataError if the file cannot be read to its end.
    """
    name = name or uri.rsplit("/", 1)[-1]
    if uri.endswith(".parquet"):
        yield from _parquet_rows(uri, name, columns, wanted)
    elif uri.endswith((".jsonl", ".jsonl.gz")):
        yield from _json_lines(uri, name, wanted)
    elif uri.endswith((".json", ".json.gz")):
        yield from _json_list(uri, name, wanted)
    else:
        raise DataError(f"{uri}: unknown file type; expected one of {', '.join(SUFFIXES)}")


def first_columns(uri: str) -> list[str]:
    """The column names of a Parquet file, or the keys of the first row of another that can be read; [] if none can."""
    if uri.endswith(".parquet"):
        return list(_parquet_file(uri).schema_arrow.names)
    return next((list(row.value) for row in file_rows(uri) if row.value is not None), [])


def _open(uri: str) -> io.BufferedIOBase:
    fs, path = storage.filesystem(uri)
    with storage_errors("read", uri):
        stream = fs.open_input_stream(path, compression=None)
    return gzip.GzipFile(fileobj=stream) if uri.endswith(".gz") else io.BufferedReader(stream)


def _parquet_file(uri: str) -> pq.ParquetFile:
    fs, path = storage.filesystem(uri)
    try:
        with storage_errors("read", uri):
            return pq.ParquetFile(fs.open_input_file(path))
    except pa.ArrowException as error:
        raise _damaged(uri, error) from error


def _damaged(uri: str, error: Exception) -> DataError:
    return DataError(f"{uri}: not a complete Parquet file, copy it again or leave it out ({error})")


def _parquet_rows(uri: str, name: str, columns: Collection[str] | None, wanted: Wanted | None) -> Iterator[Row]:
    file = _parquet_file(uri)
    known = [column for column in file.schema_arrow.names if columns is None or column in columns]
    number = 0
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if wanted is not None and not any(map(wanted, range(number, number + rows))):
            yield from itertools.repeat(UNREAD, rows)
            number += rows
            continue
        try:
            for batch in file.iter_batches(batch_size=256, row_groups=[group], columns=known):
                for value in _values(batch):
                    unread = wanted is not None and not wanted(number)
                    yield UNREAD if unread else _value_row(f"{name}:{number}", value)
                    number += 1
        except pa.ArrowException as error:
            raise _damaged(uri, error) from error


def _values(batch: pa.RecordBatch) -> Iterator[dict[str, Any] | UnicodeDecodeError]:
    """The rows of a batch; Parquet does not promise that text is UTF-8, so a row may be an error."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for number in range(batch.num_rows):
            try:
                yield batch.slice(number, 1).to_pylist()[0]
            except UnicodeDecodeError as error:
                yield error


def _value_row(where: str, value: dict[str, Any] | UnicodeDecodeError) -> Row:
    if isinstance(value, UnicodeDecodeError):
        return Row(where, None, f"not UTF-8: {value.reason}", str(value.object[:2000]))
    return Row(where, value)


def _json_lines(uri: str, name: str, wanted: Wanted | None) -> Iterator[Row]:
    try:
        with _open(uri) as stream:
            position = 0
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    unread = wanted is not None and not wanted(position)
                    yield UNREAD if unread else _json_row(f"{name}:{number}", line)
                    position += 1
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{uri}: the gzip file is damaged or cut off, copy it again ({error})") from error


def _json_row(where: str, line: bytes) -> Row:
    def refused(why: str) -> Row:
        return Row(where, None, why, line[:2000].decode(errors="replace"))

    try:
        value = json.loads(line)
        if b"\\ud" in line or b"\\uD" in line:
            json.dumps(value, ensure_ascii=False).encode()  # JSON can write half a surrogate pair, which is no text
    except UnicodeEncodeError:
        return refused("holds half a surrogate pair, which is no text")
    except ValueError as error:
        return refused(f"not JSON: {error}")
    except RecursionError:
        return refused("nested too deeply")
    if not isinstance(value, dict):
        return refused(f"expected an object, found {type(value).__name__}")
    return Row(where, value)


def _json_list(uri: str, name: str, wanted: Wanted | None) -> Iterator[Row]:
    try:
        with _open(uri) as stream:
            values = json.load(stream)
    except (ValueError, EOFError, zlib.error, RecursionError) as error:
        raise DataError(f"{uri}: not valid JSON ({error}); for one object per line name it .jsonl") from error
    if not isinstance(values, list):
        raise DataError(f"{uri}: expected a JSON list of objects, found {type(values).__name__}")
    for number, value in enumerate(values):
        unread = wanted is not None and not wanted(number)
        yield UNREAD if unread else _json_row(f"{name}:{number}", json.dumps(value).encode())


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
