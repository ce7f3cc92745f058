"""Rows of a data set of the Hugging Face hub, streamed; whatever fails there says what to change in the config."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from redi_ray.config.data import HubSet, OpenR1Source
from redi_ray.data.sources.folders import DataError
from redi_ray.data.sources.typed import typed_by

LOCAL = "download its files and read them as they are, with {field}.kind: files and their paths"
MESSAGE_CHARS = 600


def hub_rows(source: HubSet | OpenR1Source, field: str = "problems.source") -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, row) of every row, in order, with values as their types mean them. field: what the config calls the source.

    Raises DataError for a data set, subset, split or revision that is not there, for a hub that does not answer, and for
    rows whose types contradict earlier ones.
    """
    import datasets

    subset = source.subset if isinstance(source, HubSet) else None
    split = source.split if isinstance(source, HubSet) else "train"
    place = f"{source.dataset}:{split}"
    number: int | None = None
    try:
        rows = datasets.load_dataset(source.dataset, subset, split=split, revision=source.revision, streaming=True)
        number = 0
        typed = typed_by(pa.schema([]) if rows.features is None else rows.features.arrow_schema)
        for value in rows:
            yield f"{place}:{number}", typed(dict(value))
            number += 1
    except Exception as error:  # all that can go wrong is in the data, their names, or the way to them
        told = " ".join(str(error).split())[:MESSAGE_CHARS]
        where = place if number is None else f"{place}, row {number}"
        raise DataError(f"{where}: {_advice(error, field, split, number)} ({type(error).__name__}: {told})") from error


def _advice(error: Exception, field: str, split: str, number: int | None) -> str:
    """What is wrong, and what to do about it. number: the row that was to come, None before the first."""
    told, local = str(error), LOCAL.format(field=field)
    if "Config name is missing" in told or ("BuilderConfig" in told and "not found" in told):
        wrong = "the data set has several subsets" if "missing" in told else "there is no such subset"
        return f"{wrong}; set {field}.subset to one of {_listed(told)}"
    if re.search(r"(?:Bad|Unknown) split", told):
        most = "problems.max_problems" if field == "problems.source" else f"{field.removesuffix('.source')}.max_rows"
        part = f"; a part such as train[:100] cannot be streamed, take {most} for it"
        return f"there is no split {split!r}; set {field}.split to one of {_listed(told)}" + (
            part if "[" in split or "+" in split else ""
        )
    if "scripts are no longer supported" in told:
        return f"its loading script cannot be run; try {field}.revision: refs/convert/parquet, or {local}"
    if number is None and type(error).__name__ in ("DatasetNotFoundError", "RevisionNotFoundError"):
        return "the hub has no such data set or revision, or it is private; check the name, or log in (HF_TOKEN)"
    if number is None or isinstance(error, OSError):
        return f"the hub's data set cannot be loaded; check {field}, or without a network {local}"
    return (
        "this row or one soon after it cannot be read; mostly a column's values are of another type than before, such as null "
        f"at first and text later, or the file is damaged: {local}"
    )


def _listed(told: str) -> str:
    found = re.findall(r"\[([^\[\]]*)\]", told)
    return found[-1].replace("'", "") if found else "those that it has"
