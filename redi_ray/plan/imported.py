"""What a set that a step imports says: how many groups, and from its first rows the lengths of prompts and answers."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from redi_ray.config.data import FileSet, HubSet
from redi_ray.config.imports import ImportSettings
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.worlds import ExerciseSet, OrderSet
from redi_ray.data.sources.import_answers import Answered, LeftOut
from redi_ray.data.sources.import_parts import Sides, questions
from redi_ray.data.sources.import_rows import RowReader
from redi_ray.data.sources.readers import Row, expand_paths, file_rows, source_rows
from redi_ray.data.sources.shapes import LOOKED_AT, Layout, layout_of
from redi_ray.plan.assumptions import DEFAULTS
from redi_ray.plan.errors import PlanError
from redi_ray.plan.lengths import lognormal_shape


@dataclass(frozen=True)
class ImportedSample:
    """A set, counted and measured in tokens."""

    positives: int
    """Answers on the side +1."""
    pairs: int
    """Groups of one answer on each side."""
    groups: int
    """All of them: answers, pairs, labelled answers, a prompt's samples."""
    members: tuple[float, float]
    """Of a group on the sides +1 and -1, on the average."""
    prompt: float
    """Mean."""
    chosen: np.ndarray
    """`[n]` tokens of answers on the side +1."""
    rejected: np.ndarray
    """`[m]` of those on the side -1."""
    note: str
    """What was looked at."""


@dataclass(frozen=True)
class Rows:
    """The first usable rows of a set, and how many rows it has."""

    layout: Layout
    found: list[Answered]
    looked_at: int
    total: int

    @property
    def texts(self) -> Iterator[str]:
        return (turn["content"] for row in self.found for member in row.members for turn in member.turns)


def read_rows(settings: ImportSettings, prompt: PromptSettings, rows: int, where: str) -> Rows | None:
    """The first rows of files; None of a hub's data set, which is not asked. Raises PlanError where none can be used, DataError
    for files that cannot be read."""
    source = settings.source
    if isinstance(source, HubSet):
        return None
    seen: list[Row] = []
    total = 0
    for row in _rows(source, rows, where):
        total += 1
        if len(seen) < rows:
            seen.append(row)
    values = [row.value for row in seen if row.value is not None]
    layout = layout_of(settings, values[:LOOKED_AT], where)
    read, found = RowReader(layout, settings, prompt), list[Answered]()
    why, sides = "", None if settings.split is None else Sides(settings.split, where)
    for value in values:
        try:
            one = read(value)
            if sides is not None and sides(value, one) != sides.split.take:
                continue
            found += [one] if settings.judge is None else questions(one, settings.judge, prompt)
        except LeftOut as error:
            why = why or f"{error.reason}: {str(error)[:100]}"
    if not found:
        raise PlanError(f"{where}: none of the first {len(seen)} rows can be used, read as {layout}; {why}")
    return Rows(layout, found, len(seen), min(total, settings.max_rows or total))


def _rows(source: FileSet | OrderSet | ExerciseSet, rows: int, where: str) -> Iterator[Row]:
    """All of a set; files are read as far as is wanted, and counted."""
    if isinstance(source, OrderSet | ExerciseSet):
        yield from source_rows(source)
        return
    read = 0
    for uri in expand_paths(source.paths, f"{where}.source.paths"):
        for row in file_rows(uri, wanted=partial(operator.gt, rows - read)):
            read += 1
            yield row


def sample_import(
    settings: ImportSettings,
    rows: Rows | None,
    chat: Callable[[list[dict[str, Any]]], int],
    answer: Callable[[str], int],
    where: str,
) -> ImportedSample:
    """Measure the rows. chat, answer: tokens of a prompt and of an answer. Raises PlanError for a set of unknown size."""
    if rows is None:
        if settings.max_rows is None:
            raise PlanError(f"{where}: the hub is not asked here, so the set's size is not known; set max_rows")
        lengths = lognormal_shape(DEFAULTS["length_spread"].value) * DEFAULTS["completion_tokens"].value
        prompt = DEFAULTS["prompt_tokens"].value
        count = settings.max_rows
        return ImportedSample(
            count, count, count, (1.0, 1.0), prompt, lengths, lengths, "not at hand; lengths are assumed"
        )
    sides: dict[int, list[int]] = {+1: [], -1: []}
    for row in rows.found:
        for member in row.members:
            sides[member.side].append(sum(answer(turn["content"]) for turn in member.turns))
    either, share = sides[+1] + sides[-1], rows.total / rows.looked_at
    positives, groups = round(share * len(sides[+1])), _groups(rows)
    pairs = round(share * sum(Counter(told) == {+1: 1, -1: 1} for told in groups))
    members = (len(sides[+1]) / len(groups), len(sides[-1]) / len(groups))
    note = f"{rows.total:,} rows, the first {rows.looked_at:,} read as {rows.layout}"
    chosen, rejected = (np.array(found or either, float) for found in sides.values())
    prompt = float(np.mean([chat(row.prompt) for row in rows.found]))
    return ImportedSample(positives, pairs, round(share * len(groups)), members, prompt, chosen, rejected, note)


def _groups(rows: Rows) -> list[list[int]]:
    """The sides of each group's members; rollouts of one prompt are a group, whatever rows they are in."""
    alone: dict[str, list[int]] = {}
    found: list[list[int]] = []
    for row in rows.found:
        sides = [member.side for member in row.members]
        if rows.layout.shape == "rollouts":
            alone.setdefault(str((row.problem_id, row.prompt)), []).extend(sides)
        else:
            found.append(sides)
    return [*found, *alone.values()]
