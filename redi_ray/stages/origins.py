"""What stages on the traces of a mixture tell by source and kind of verification."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from redi_ray.data.mix.origins import curated_by_source, traces_by_source, verdicts_by_source
from redi_ray.data.sources.tests_table import TESTS_TABLE
from redi_ray.stages.mixing import SOURCES
from redi_ray.stages.remote import remotely
from redi_ray.stages.run import Run
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest, Stage

BY_SOURCE = "by_source"
"""A fact: source -> kind of verification -> counts."""
COUNTED: dict[str, Callable[..., Any]] = {"verified": verdicts_by_source, "traces": traces_by_source}


def by_source(run: Run, stage: Stage, table: str, problems: Manifest | None) -> dict[str, Any]:
    """The fact BY_SOURCE of a table of traces, with verdicts or without; nothing where their problems are of one source."""
    if problems is None or SOURCES not in problems.facts:
        return {}
    shards = [uri for uri in storage.list_files(storage.join(stage.uri, table), ".parquet") if "/rejects/" not in uri]
    return {BY_SOURCE: remotely(COUNTED[table], *_places(run, problems), shards)}


def curated_of_sources(run: Run, stage: Stage, problems: Manifest) -> dict[str, Any]:
    """The same of positives and pairs."""
    if SOURCES not in problems.facts:
        return {}
    tables = {
        name: storage.list_files(storage.join(stage.uri, name), ".parquet") for name in ("examples", "pairs", "dropped")
    }
    return {BY_SOURCE: remotely(curated_by_source, *_places(run, problems), tables)}


def _places(run: Run, problems: Manifest) -> tuple[list[str], list[str]]:
    """Shards of the mixture's problems, and of the tests that count."""
    return problems.files("problems"), problems.files(TESTS_TABLE) if run.config.verify.tests is not None else []
