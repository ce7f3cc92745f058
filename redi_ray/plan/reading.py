"""What a plan reads of sources: how many rows, the first of them, and of a mixture so many of each as its shares say."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from redi_ray.config.data import ExerciseSource, FilesSource, OneSource, OpenR1Source, ProblemsStep, RowSource
from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.mixture import MixSettings, VerifiedBy
from redi_ray.config.worlds import BuiltInSource
from redi_ray.data.mix.shares import allocate
from redi_ray.data.sources.built_in import answer_of, splits_of
from redi_ray.data.sources.readers import expand_paths, file_rows, source_rows
from redi_ray.data.sources.rows import Parsed, Refused, parser, problem_hash
from redi_ray.plan.errors import PlanError
from redi_ray.text.problem_key import problem_key


@dataclass(frozen=True)
class Rows:
    """Of one source."""

    values: list[Parsed | Refused]
    """The first rows."""
    total: int
    """Rows in all."""

    @property
    def problems(self) -> int:
        """About how many there are, by the share of distinct ones among the first rows."""
        found = {key_of(value) for value in self.values if not isinstance(value, Refused)}
        return round(self.total * len(found) / max(1, len(self.values)))


def key_of(value: Parsed) -> str:
    """By which a problem is known again; ids may start again in every file."""
    return f"{value.problem_id} {problem_key(value.problem)}"


def source_paths(source: RowSource) -> list[str]:
    return source.paths if isinstance(source, FilesSource | OpenR1Source) else []


def read_source(source: OneSource, rows: int, verified_by: VerifiedBy | None = None) -> Rows | None:
    """The first `rows` of a source; None where it is not at hand. Raises DataError for files that cannot be read."""
    if isinstance(source, BuiltInSource):
        world = splits_of(source).train
        values: list[Parsed | Refused] = [
            Parsed(problem_hash(one), one, answer_of(source, one), source.kind) for one in world[:rows]
        ]
        return Rows(values, len(world))
    parse, values, total = parser(source, verified_by), list[Parsed | Refused](), 0
    if isinstance(source, ExerciseSource):
        found = [row.value for row in source_rows(source) if row.value is not None]
        return Rows([parse(row) for row in found[:rows]], len(found))
    if not source_paths(source):
        return None
    for uri in expand_paths(source_paths(source)):
        for row in file_rows(uri, wanted=partial(operator.gt, rows - len(values))):  # positions below it
            total += 1
            if row.value is not None:
                values.append(parse(row.value))
    return Rows(values, total)


def named_sources(config: ExperimentConfig, rows: int) -> dict[str, Rows | None]:
    """Of each step `problems`, by name."""
    steps = {name: step for name, step in config.steps.items() if isinstance(step, ProblemsStep)}
    return {name: read_source(step.source, rows, step.verified_by) for name, step in steps.items()}


def problems_in(config: ExperimentConfig, found: dict[str, Rows | None]) -> dict[str, int]:
    """Problems of each step `problems` that could be read."""
    known = {name: rows.problems for name, rows in found.items() if rows is not None}
    limits = {name: getattr(config.steps[name], "max_problems", None) for name in known}
    return {name: count if limits[name] is None else min(count, limits[name] or 0) for name, count in known.items()}


def mixed_rows(
    settings: MixSettings, found: dict[str, Rows | None], problems: dict[str, int], rows: int
) -> tuple[Sequence[Parsed | Refused], int | None, str]:
    """(the first rows of each source by its share, problems of the mixture, what was looked at). The number is None where it
    depends on a source that is not at hand. Raises PlanError where a source has too few problems and that ends the run."""
    unread = [name for name in settings.of if found.get(name) is None]
    there = {name: problems[name] for name in settings.of if name not in unread}
    if unread and (settings.size is None or not settings.weights):
        count, taken = settings.size, {name: 1 for name in there}
    elif unread:
        count, taken = settings.size, {name: round(settings.weights[name] * 1000) for name in there}
    else:
        allocation = allocate(settings, there)
        if settings.when_short == "error" and allocation.taken != allocation.asked:
            raise PlanError(f"problems.source: {'; '.join(allocation.told)}")
        taken, count = allocation.taken, sum(allocation.taken.values())
    whole = max(1, sum(taken.values()))
    values: list[Parsed | Refused] = []
    for name, share in taken.items():
        some = found[name]
        assert some is not None
        values += some.values[: max(1, round(rows * share / whole))]
    told = ", ".join(f"{taken[name]:,} of {name}" for name in there) if not unread else f"without {', '.join(unread)}"
    return values, count, f"{len(values):,} rows of {len(there)} sources ({told})"
