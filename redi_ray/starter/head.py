"""The first rows of data that nobody has described: a file, a folder, a place on S3, or a set of the hub."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from redi_ray.config.data import FileSet, HubSet
from redi_ray.data.sources.folders import expand_paths
from redi_ray.data.sources.readers import DataError, Row, file_rows, source_rows
from redi_ray.errors import UserError
from redi_ray.store import storage

LOOKED_AT = 200
"""Rows that are looked at."""
MOST_FILES = 5
"""Files of a folder that are looked at."""
MOST_CHARS = 32 << 20
"""Of the rows together; there may be fewer rows for it."""
LARGEST_LIST = 1 << 30
"""Bytes of a file that is a JSON list, which can only be read whole."""
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


class StartError(UserError):
    """Data that no config can be made for; the message says why and what would help."""


@dataclass(frozen=True)
class Head:
    """What was looked at."""

    source: FileSet | HubSet
    """As a config names it; local paths are whole, so that it runs from everywhere."""
    rows: list[dict[str, Any]]
    unreadable: list[Row]
    files: int
    """How many there are; 0 for a set of the hub."""
    whole: bool
    """Whether these are all rows."""

    @property
    def told(self) -> str:
        """What was looked at, in words."""
        rows = f"all {len(self.rows):,} rows" if self.whole else f"the first {len(self.rows):,} rows"
        return f"{rows} of {self.files} files" if self.files > 1 else rows


def read_head(data: str, subset: str | None = None, split: str | None = None) -> Head:
    """The first rows of `data`. Raises DataError for what cannot be read, StartError where there is nothing to see."""
    source = source_of(data, subset, split)
    if isinstance(source, HubSet):
        found = list(itertools.islice(source_rows(source, told="the set"), LOOKED_AT + 1))
        rows, files, whole = found[:LOOKED_AT], 0, len(found) <= LOOKED_AT
    else:
        rows, files, whole = _of_files(expand_paths(source.paths, "DATA"))
    values = [row.value for row in rows if row.value]
    unreadable = [row for row in rows if row.value is None]
    if not values:
        why = f": {unreadable[0].where} {unreadable[0].error}" if unreadable else ""
        raise StartError(f"{data}: {'no row can be read' if unreadable else 'it has no rows'}{why}")
    return Head(source, values, unreadable, files, whole)


def source_of(data: str, subset: str | None = None, split: str | None = None) -> FileSet | HubSet:
    """What the words on the command line name. Raises StartError where there is no such thing."""
    if data.startswith("s3://"):
        return FileSet(paths=[data])
    if os.path.exists(os.path.expanduser(data)):
        return FileSet(paths=[os.path.abspath(os.path.expanduser(data))])
    name, _, named = data.partition(":")
    if not HUB_NAME.fullmatch(name) or name.endswith((".jsonl", ".json", ".csv", ".parquet")):
        raise StartError(
            f"{data} is not there: name a file or a folder, s3://BUCKET/PATH, or a set of the hub (OWNER/NAME, OWNER/NAME:SPLIT)"
        )
    return HubSet(dataset=name, subset=subset, split=split or named or "train")


def _of_files(uris: list[str]) -> tuple[list[Row], int, bool]:
    """Rows of the first files, as many of each; how many files there are; whether these are all rows."""
    looked_at = uris[:MOST_FILES]
    found, whole, each = list[Row](), len(uris) == len(looked_at), LOOKED_AT // len(looked_at)
    for uri in looked_at:
        _refuse_huge_lists(uri)
        rows, ended = _first(file_rows(uri), each, MOST_CHARS // len(looked_at))
        found, whole = found + rows, whole and ended
    return found, len(uris), whole


def _first(rows: Iterator[Row], most: int, most_chars: int) -> tuple[list[Row], bool]:
    """The first rows; whether there are no more. Raises DataError where a file is damaged before its first row."""
    found, chars = list[Row](), 0
    try:
        for row in rows:
            if len(found) == most or chars > most_chars:
                return found, False
            found.append(row)
            chars += len(str(row.value))
    except DataError:
        if not found:
            raise
        return found, False  # the run will say what is wrong further down
    return found, True


def _refuse_huge_lists(uri: str) -> None:
    head, size = storage.read_head(uri, 64)
    if size > LARGEST_LIST and head.lstrip()[:1] == b"[":
        raise StartError(
            f"{uri}: a JSON list of {size / 2**30:.1f} GiB, which can only be read whole, here and in a run; make it JSON lines, "
            f"such as by `jq -c '.[]' {uri} > rows.jsonl`"
        )
