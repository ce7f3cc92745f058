"""Reading rows from files and the hub, in order, with the place each one comes from.

A row that cannot be read is passed on with its error. A file that cannot be read at all is an error, because a truncated
file hides an unknown number of rows.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from redi_ray.config.data import FileSet, HubSet, OpenR1Source
from redi_ray.config.worlds import ExerciseSet, OrderSet
from redi_ray.data.sources.exercise_world import exercise_rows
from redi_ray.data.sources.folders import DataError, expand_paths, short_names
from redi_ray.data.sources.hub import hub_rows
from redi_ray.data.sources.opening import ARROW_FILE, BOM, DamagedFile, open_data, unpacking
from redi_ray.data.sources.order_world import order_rows
from redi_ray.data.sources.typed import as_printed, class_features, with_class_names
from redi_ray.errors import storage_errors
from redi_ray.store import storage

__all__ = ["UNREAD", "DataError", "Row", "expand_paths", "file_rows", "first_columns", "source_rows"]

LOOKED_AT = 10_000
"""Rows that are looked at for the names of columns."""
LONGEST_CELL = 1 << 30
"""Characters; Python's own limit is shorter than many a trace."""


@dataclass(frozen=True)
class Row:
    """One input row. `value` is None where the row could not even be read; `error` then says why."""

    where: str
    value: dict[str, Any] | None
    error: str = ""
    raw: str = ""

    @property
    def file(self) -> str:
        """What the row's file is called."""
        return self.where.rpartition(":")[0]


UNREAD = Row("", None)
"""Stands in for a row that was not asked for."""
Wanted = Callable[[int], bool]
"""Whether the row at a position (0, 1, ...) is asked for."""


def source_rows(
    source: FileSet | HubSet | OpenR1Source | OrderSet | ExerciseSet, told: str = "problems.source"
) -> Iterator[Row]:
    """All rows of a source, in order. told: what the config calls it. Raises DataError."""
    if isinstance(source, HubSet) or (isinstance(source, OpenR1Source) and not source.paths):
        for where, value in hub_rows(source, told):
            yield Row(where, value)
        return
    if isinstance(source, OrderSet | ExerciseSet):
        made = order_rows(source) if isinstance(source, OrderSet) else exercise_rows(source)
        yield from (Row(f"{source.kind}:{number}", value) for number, value in enumerate(made))
        return
    uris = expand_paths(source.paths, f"{told}.paths")
    for uri, name in zip(uris, short_names(uris), strict=True):
        yield from file_rows(uri, name=name)


def file_rows(
    uri: str, *, name: str = "", columns: Collection[str] | None = None, wanted: Wanted | None = None
) -> Iterator[Row]:
    """The rows of one Parquet, Arrow, JSON lines, JSON list, CSV or TSV file; UNREAD for those that are not `wanted`, which
    costs little.

    name: what the file is called in `Row.where`, its own name by default. columns: top-level columns that suffice.
    Raises DataError if the file cannot be read to its end.
    """
    name = name or uri.rsplit("/", 1)[-1]
    opened = open_data(uri)
    with opened.stream as stream:
        if opened.kind == "parquet":
            yield from _parquet_rows(uri, name, columns, wanted)
        elif opened.kind == "arrow":
            yield from _arrow_rows(uri, name, stream, columns, wanted)
        elif opened.kind in ("csv", "tsv"):
            with unpacking(uri):
                yield from _csv_rows(uri, name, stream, wanted, "excel" if opened.kind == "csv" else "excel-tab")
        else:
            with unpacking(uri):
                yield from _json_rows(uri, name, stream, wanted)


def first_columns(uri: str, until: Collection[str] = ()) -> list[str]:
    """The column names of a Parquet file, or the keys in the first rows of another; [] if none can be read.

    Looks no further once all of `until` are among them, and at LOOKED_AT rows at most: JSON need not write a null.
    """
    if open_data(uri).kind == "parquet":
        return list(_parquet_file(uri).schema_arrow.names)
    found: dict[str, None] = {}
    for row in itertools.islice(file_rows(uri), LOOKED_AT):
        found |= dict.fromkeys(row.value or ())
        if until and found.keys() >= set(until):
            break
    return list(found)


def _parquet_file(uri: str) -> pq.ParquetFile:
    fs, path = storage.filesystem(uri)
    try:
        with storage_errors("read", uri):
            return pq.ParquetFile(fs.open_input_file(path))
    except pa.ArrowException as error:
        raise _damaged(uri, error) from error


def _refuse_twins(uri: str, names: Sequence[str]) -> None:
    """Raise DataError where two columns have one name: of a row only the last one's value would be left."""
    if twins := sorted({name for name in names if name and names.count(name) > 1}):
        raise DataError(
            f"{uri}: two columns are named {', '.join(map(repr, twins))}; rename one of each, or leave it out"
        )


def _damaged(uri: str, error: Exception, kind: str = "Parquet") -> DamagedFile:
    return DamagedFile(f"{uri}: not a complete {kind} file, copy it again or leave it out ({error})", kind)


def _parquet_rows(uri: str, name: str, columns: Collection[str] | None, wanted: Wanted | None) -> Iterator[Row]:
    file = _parquet_file(uri)
    _refuse_twins(uri, file.schema_arrow.names)
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
                yield from _batch_rows(batch, name, number, wanted)
                number += batch.num_rows
        except pa.ArrowException as error:
            raise _damaged(uri, error) from error


def _arrow_rows(
    uri: str, name: str, stream: io.BufferedReader, columns: Collection[str] | None, wanted: Wanted | None
) -> Iterator[Row]:
    """Rows of an Arrow file or stream, the latter being what `datasets` saves."""
    number = 0
    try:
        if stream.peek(len(ARROW_FILE)).startswith(ARROW_FILE):
            stream.read(8)  # the file format is a stream behind its name, and padding, with an index at its end
        for batch in pa.ipc.open_stream(stream):
            known = [column for column in batch.schema.names if columns is None or column in columns]
            for at in range(0, batch.num_rows, 256):
                part = batch.select(known).slice(at, 256)
                yield from _batch_rows(part, name, number, wanted)
                number += part.num_rows
    except (pa.ArrowException, EOFError, OSError) as error:
        raise _damaged(uri, error, "Arrow") from error


def _batch_rows(batch: pa.RecordBatch, name: str, number: int, wanted: Wanted | None) -> Iterator[Row]:
    """The rows of a batch whose first one is at position `number`."""
    classes = class_features(batch.schema)
    for position, value in enumerate(_values(as_printed(batch)), start=number):
        if wanted is not None and not wanted(position):
            yield UNREAD
            continue
        if isinstance(value, dict):
            value |= {column: with_class_names(value.get(column), feature) for column, feature in classes.items()}
        yield _value_row(f"{name}:{position}", value)


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


def _csv_rows(uri: str, name: str, stream: io.BufferedReader, wanted: Wanted | None, dialect: str) -> Iterator[Row]:
    """Rows of text under the names in the first line; an empty cell is null. A quoted cell may hold line breaks."""
    csv.field_size_limit(LONGEST_CELL)
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    try:
        first = next(text, "")
    except UnicodeDecodeError as error:
        raise DataError(f"{uri}: {_not_utf8(error)}") from error
    delimiter = csv.get_dialect(dialect).delimiter
    if delimiter not in first and ";" in first:  # as spreadsheets write where a comma is in numbers
        delimiter = ";"
    rows = csv.DictReader(itertools.chain([first], text), dialect=dialect, strict=True, delimiter=delimiter)
    try:
        _refuse_twins(uri, list(rows.fieldnames or ()))
        for position, cells in enumerate(rows):
            where = f"{name}:{position}"
            if wanted is not None and not wanted(position):
                yield UNREAD
            elif None in cells or None in cells.values():
                yield Row(
                    where, None, f"has not as many cells as the first line ({len(rows.fieldnames or ())})", str(cells)
                )
            else:
                yield Row(where, {column: cell or None for column, cell in cells.items()})
    except UnicodeDecodeError as error:
        raise DataError(f"{uri}: behind line {rows.line_num} {_not_utf8(error)}") from error
    except csv.Error as error:
        raise DataError(f"{uri}: not valid CSV behind line {rows.line_num} ({error})") from error


def _not_utf8(error: UnicodeDecodeError) -> str:
    """What is wrong with bytes that are no UTF-8, and what helps."""
    byte = f"byte 0x{error.object[error.start]:02x}"
    return f"not UTF-8 ({byte}: {error.reason}); convert the file, such as with `iconv -f WINDOWS-1252 -t UTF-8`"


def _json_rows(uri: str, name: str, stream: io.BufferedReader, wanted: Wanted | None) -> Iterator[Row]:
    """One object per line, or a list of them, whichever the first lines show."""
    head: list[bytes] = []
    for line in stream:
        head.append(line)
        if sum(bool(seen.strip()) for seen in head) == 2:
            break
    head[:1] = [line.removeprefix(BOM) for line in head[:1]]
    if _is_list(uri, head):
        yield from _json_list(uri, name, b"".join([*head, stream.read()]), wanted)
        return
    position = 0
    for number, line in enumerate(itertools.chain(head, stream), start=1):
        if line.strip():
            unread = wanted is not None and not wanted(position)
            yield UNREAD if unread else _json_row(f"{name}:{number}", line)
            position += 1


def _is_list(uri: str, head: list[bytes]) -> bool:
    """Whether the first lines begin a JSON list of objects. A .json file is one unless each line is an object of its own."""
    lines = [line.strip() for line in head if line.strip()]
    if re.match(rb"\[\s*(?:\{|\]$)", b"".join(lines[:2])):
        return True
    is_json = ".json" in re.findall(r"\.\w+", uri.lower().rsplit("/", 1)[-1])[-2:]
    return is_json and not (len(lines) == 2 and all(_json_row("", line).value is not None for line in lines))


def _json_row(where: str, line: bytes) -> Row:
    def refused(why: str) -> Row:
        return Row(where, None, why, line[:2000].decode(errors="replace"))

    try:
        value = json.loads(line)
        if b"\\ud" in line or b"\\uD" in line:
            json.dumps(value, ensure_ascii=False).encode()  # JSON can write half a surrogate pair, which is no text
    except UnicodeEncodeError:
        return refused("holds half a surrogate pair, which is no text")
    except UnicodeDecodeError as error:
        return refused(_not_utf8(error))
    except ValueError as error:
        return refused(f"not JSON: {error}")
    except RecursionError:
        return refused("nested too deeply")
    if not isinstance(value, dict):
        return refused(f"expected an object, found {type(value).__name__}")
    return Row(where, value)


def _json_list(uri: str, name: str, data: bytes, wanted: Wanted | None) -> Iterator[Row]:
    try:
        values = json.loads(data)
    except UnicodeDecodeError as error:
        raise DataError(f"{uri}: {_not_utf8(error)}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{uri}: not valid JSON ({error}); for one object per line name it .jsonl") from error
    if not isinstance(values, list):
        keys = f" with {', '.join(map(str, list(values)[:10]))}" if isinstance(values, dict) else ""
        raise DataError(
            f"{uri}: expected a JSON list of objects, found one {type(values).__name__}{keys}; save the list that holds the rows "
            "by itself, or if this is the only row name the file .jsonl"
        )
    for number, value in enumerate(values):
        unread = wanted is not None and not wanted(number)
        yield UNREAD if unread else _json_row(f"{name}:{number}", json.dumps(value).encode())
