"""Variants that people have, with their originals. One task reads the files and holds their rows until all groups are there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from redi_ray.config.perturb import ImportedVariants
from redi_ray.data.perturb.made import MADE, as_made
from redi_ray.data.sources.readers import DataError, expand_paths, file_rows, first_columns
from redi_ray.data.sources.shards import RejectWriter, ShardWriter
from redi_ray.store import storage
from redi_ray.text.variants import MARK, variant_id

Group = dict[str, list[dict[str, Any]]]
"""What was changed -> the rows."""


def look_at_variants(settings: ImportedVariants, where: str) -> None:
    """Raise DataError where the files are not there, or the first rows of the first one lack a column. where: in the config."""
    uris = expand_paths(settings.paths, f"{where}.paths")
    there = first_columns(uris[0], _columns(settings))
    if lacking := [name for name in _columns(settings) if name not in there]:
        raise DataError(_no_column(where, lacking, there))


def _no_column(where: str, lacking: list[str], there: Iterable[str]) -> str:
    return (
        f"{where}: no row has a column {', '.join(lacking)}; there are {', '.join(sorted(there)) or 'none'}. Set `group`, "
        "`variant`, `problem` and `answer` to what they are called"
    )


def import_variants(settings: ImportedVariants, out_uri: str) -> dict[str, Any]:
    """Write `work/made` (MADE) and `rejects` below `out_uri`; `rows` read and `rejected` by reason.

    A group without an original, or with two, gives nothing. Raises DataError where no group is whole, or a column is nowhere.
    """
    groups, rejects = dict[str, Group](), RejectWriter(storage.join(out_uri, "rejects"))
    rows, seen = 0, set[str]()
    for uri in expand_paths(settings.paths, "imported.paths"):
        for row in file_rows(uri):
            rows += 1
            seen |= set(row.value or ())
            if (why := _fault(row.value, settings)) is not None:
                rejects.add(row.where, *why, row.value or row.raw)
                continue
            assert row.value is not None
            told = {**row.value, "where": row.where}
            variants = groups.setdefault(str(row.value[settings.group]), {})
            variants.setdefault(str(row.value[settings.variant]), []).append(told)
    if lacking := [name for name in _columns(settings) if name not in seen]:
        raise DataError(_no_column("imported", lacking, seen))
    writer = ShardWriter(storage.join(out_uri, "work", "made"), MADE)
    for name, group in groups.items():
        for made in _of_group(name, group, settings, rejects):
            writer.add(made)
    if not writer.count:
        raise DataError(
            f"imported: none of {len(groups)} groups has one row whose `{settings.variant}` is `{settings.original}`: "
            f"{dict(rejects.reasons)}. Name what the originals are called in `original`"
        )
    writer.flush()
    rejects.flush()
    return {"rows": rows, "rejected": dict(rejects.reasons)}


def _columns(settings: ImportedVariants) -> tuple[str, ...]:
    return settings.group, settings.variant, settings.problem, settings.answer


def _fault(value: dict[str, Any] | None, settings: ImportedVariants) -> tuple[str, str] | None:
    """(reason, detail) why a row cannot be used."""
    if value is None:
        return "unreadable_row", ""
    for name in _columns(settings):
        told = value.get(name)
        if told is None or not str(told).strip():
            return f"no_{name}", ""
    if MARK in str(value[settings.variant]):
        return (
            "variant_name",
            f"{value[settings.variant]!r} holds {MARK}, which stands before a variant's name in its id",
        )
    return None if isinstance(value[settings.problem], str) else ("problem_is_no_text", "")


def _answer(row: dict[str, Any], settings: ImportedVariants) -> str:
    """The reference answer as text; a whole number that a column of floats holds is written as one."""
    told = row[settings.answer]
    return str(int(told)) if isinstance(told, float) and told.is_integer() else str(told)


def _of_group(name: str, group: Group, settings: ImportedVariants, rejects: RejectWriter) -> Iterator[dict[str, Any]]:
    originals = group.get(settings.original, [])
    if len(originals) != 1:
        reason = "two_originals" if originals else "no_original"
        for row in (row for rows in group.values() for row in rows):
            rejects.add(row["where"], reason, f"group {name}")
        return
    (first,) = originals
    row = {
        "problem_id": name,
        "problem": first[settings.problem],
        "answer": _answer(first, settings),
        "source": None,
    }
    yield as_made(row, None, row["problem"])
    for variant, rows in group.items():
        if variant == settings.original:
            continue
        for number, one in enumerate(rows, start=1):
            called = variant if number == 1 else f"{variant}.{number}"
            made = as_made(row, variant, one[settings.problem], answer=_answer(one, settings))
            yield {**made, "problem_id": variant_id(name, called), "trace_id": variant_id(name, called)}
