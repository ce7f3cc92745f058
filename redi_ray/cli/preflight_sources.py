"""What can be known of sources before Ray starts: whether they are there, and whether their first rows are problems."""

from __future__ import annotations

from collections import Counter
from itertools import islice

from redi_ray.cluster.runtime import log
from redi_ray.config.data import FilesSource, HubSet, OneSource, OpenR1Source, ProblemsStep, Source
from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.worlds import BuiltInSource
from redi_ray.errors import Gathered

LOOKED_AT = 200
"""Rows of each source."""


def check_problems(config: ExperimentConfig) -> None:
    """Raise DataError where a source is not there, or none of the first rows of a named one is a problem."""
    gathered = Gathered()
    with gathered():
        _is_there(config.problems.source, "problems.source")
    for name, step in config.steps.items():
        if isinstance(step, ProblemsStep):
            with gathered():
                _look(step, f"steps.{name}")
            if step.licence is None and not isinstance(step.source, HubSet | BuiltInSource):
                log.info("steps.%s: its licence is not known; name it in `licence`, for cards and the report", name)
    gathered.raise_all("sources that cannot be used")


def _is_there(source: Source | OneSource, where: str) -> None:
    from redi_ray.data.sources.built_in import splits_of
    from redi_ray.data.sources.readers import expand_paths

    if isinstance(source, FilesSource) or (isinstance(source, OpenR1Source) and source.paths):
        expand_paths(source.paths, f"{where}.paths")
    if isinstance(source, BuiltInSource):
        splits_of(source)


def _look(step: ProblemsStep, where: str) -> None:
    from redi_ray.data.sources.readers import DataError, source_rows
    from redi_ray.data.sources.rows import Refused, parser

    source = step.source
    _is_there(source, f"{where}.source")
    if isinstance(source, BuiltInSource | HubSet) or (isinstance(source, OpenR1Source) and not source.paths):
        return
    parse, why, first = parser(source, step.verified_by), Counter[str](), ""
    for row in islice(source_rows(source, f"{where}.source"), LOOKED_AT):
        found = Refused("unreadable_row", row.error) if row.value is None else parse(row.value)
        if not isinstance(found, Refused):
            return
        why[found.reason] += 1
        first = first or f"{row.where}: {found.detail or found.reason}"
    if not why:
        raise DataError(f"{where}: its files hold no rows")
    told = ", ".join(f"{count} {reason}" for reason, count in why.most_common())
    raise DataError(f"{where}: none of its first {why.total()} rows is a problem ({told}); {first}")
