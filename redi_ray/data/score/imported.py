"""Numbers that come from the user's own files. They are read once and kept as sorted hashes of ids, 16 bytes a row."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redi_ray.config.scorers import ImportedScorer
from redi_ray.data.score.scorer import Asked, Scorer, Values
from redi_ray.data.sources.folders import expand_paths, short_names
from redi_ray.data.sources.ids import Hashes, hash_ids
from redi_ray.data.sources.readers import DataError, Row, file_rows
from redi_ray.data.sources.rows import lookup
from redi_ray.data.sources.shards import RejectWriter
from redi_ray.data.sources.values import BadValue, read_id, read_number, shown
from redi_ray.store import storage
from redi_ray.store.contents import content_of

ROWS_AT_A_TIME = 10_000
LOOKED_AT = 200
"""Rows that are looked at before anything starts."""
TOLD = "the paths of a step"
"""What messages call the files where they do not know whose they are."""


def look(settings: ImportedScorer, where: str) -> None:
    """Raise DataError where the files are not there, or none of their first rows has an id and a number."""
    first, seen = "", 0
    for row in islice(_files(settings, f"{where}.paths"), LOOKED_AT):
        seen += 1
        wrong = ("unreadable_row", row.error) if row.value is None else _wrong(settings, row.value)
        if wrong is None:
            return
        first = first or f"{row.where}: {wrong[1]}"
    raise DataError(f"{where}: none of the first {seen} rows has an id and a number; {first}")


def prepare(settings: ImportedScorer, asked: Asked) -> dict[str, Any]:
    """Write `<work>/hashes.npy` (uint64[n], sorted) and `values.npy` (float64[n]); what the files held.

    Rows without an id or a number go to `<work>/rejects`, each with its reason. Raises DataError where no row can be used, or two
    rows say different things of one sample.
    """
    rejects = RejectWriter(storage.join(asked.work, "rejects"))
    parts: list[tuple[Hashes, NDArray[np.float64]]] = []
    rows = _rows(settings, rejects)
    while some := list(islice(rows, ROWS_AT_A_TIME)):
        parts.append((hash_ids(key for key, _ in some), np.array([number for _, number in some])))
    rejects.flush()
    if not parts:
        first = "".join(f"\n  {reason}: {told}" for reason, told in rejects.first.items())
        raise DataError(f"{', '.join(settings.paths)}: no row has an id and a number{first}")
    hashes, numbers = (np.concatenate(some) for some in zip(*parts, strict=True))
    order = np.argsort(hashes, kind="stable")
    hashes, numbers = hashes[order], numbers[order]
    again = hashes[1:] == hashes[:-1]
    if (differ := np.flatnonzero(again & (numbers[1:] != numbers[:-1]))).size:
        at = differ[0]
        key = next(key for key, _ in _rows(settings, rejects) if hash_ids([key])[0] == hashes[at])
        raise DataError(
            f"{', '.join(settings.paths)}: {differ.size} rows say otherwise than another of the same sample, such as {key}: "
            f"{numbers[at]:g} and {numbers[at + 1]:g}; leave one row of each"
        )
    once = np.r_[True, ~again]
    save_numbers(asked.work, hashes[once], numbers[once])
    told = {"rows": len(hashes) + rejects.reasons.total(), "numbers": int(once.sum()), "same_again": int(again.sum())}
    return {"files": told | {"rejected": dict(rejects.reasons)}}


def _files(settings: ImportedScorer, told: str = TOLD) -> Iterator[Row]:
    uris = expand_paths(settings.paths, told)
    for uri, name in zip(uris, short_names(uris), strict=True):
        yield from file_rows(uri, name=name)


def _rows(settings: ImportedScorer, rejects: RejectWriter) -> Iterator[tuple[str, float]]:
    for row in _files(settings):
        if row.value is None:
            rejects.add(row.where, "unreadable_row", row.error, row.raw)
        elif (wrong := _wrong(settings, row.value)) is not None:
            rejects.add(row.where, *wrong, row.value)
        else:
            key, number = read_id(lookup(row.value, settings.trace_id)), _number(lookup(row.value, settings.value))
            assert key is not None
            assert number is not None
            yield key, number


def _wrong(settings: ImportedScorer, row: dict[str, Any]) -> tuple[str, str] | None:
    """Reason and detail of a row without an id or a number."""
    if read_id(lookup(row, settings.trace_id)) is None:
        return "no_trace_id", _told(row, settings.trace_id)
    return None if _number(lookup(row, settings.value)) is not None else ("no_number", _told(row, settings.value))


def _number(value: Any) -> float | None:
    try:
        return read_number(value)
    except BadValue:
        return None


def _told(row: dict[str, Any], column: str) -> str:
    found = lookup(row, column)
    there = f"missing or null; the row has {', '.join(row)}" if found is None else f"{shown(found)}"
    return f"column `{column}`: {there}"


def save_numbers(work: str, hashes: Hashes, numbers: NDArray[np.float64]) -> None:
    """Keep numbers by sorted hashes of ids in a folder."""
    for name, array in (("hashes", hashes), ("values", numbers)):
        buffer = io.BytesIO()
        np.save(buffer, array)
        storage.write_bytes(storage.join(work, f"{name}.npy"), buffer.getvalue())


def load_numbers(work: str) -> tuple[Hashes, NDArray[np.float64]]:
    """What `save_numbers` has kept."""
    hashes, numbers = (
        np.load(io.BytesIO(storage.read_bytes(storage.join(work, f"{name}.npy")))) for name in ("hashes", "values")
    )
    return hashes, numbers


def numbers_of(ids: Iterable[str], hashes: Hashes, numbers: NDArray[np.float64]) -> list[float | None]:
    """The number of each id, None of one that is not known."""
    wanted = hash_ids(ids)
    if not len(hashes):
        return [None] * len(wanted)
    places = np.minimum(np.searchsorted(hashes, wanted), len(hashes) - 1)
    found = hashes[places] == wanted
    return [float(numbers[at]) if there else None for at, there in zip(places, found, strict=True)]


def start(settings: ImportedScorer, asked: Asked) -> Values:
    """The number of each sample by its id, null where the files have none."""
    known = load_numbers(asked.work)
    return lambda rows: [{"value": value} for value in numbers_of(rows["trace_id"].to_pylist(), *known)]


def outside(settings: ImportedScorer) -> list[str]:
    """What the files hold."""
    return [content_of(path) for path in expand_paths(settings.paths, TOLD)]


IMPORTED = Scorer((), start, prepare, outside, look)
