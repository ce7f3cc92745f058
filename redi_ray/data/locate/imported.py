"""The first wrong step from the user's own files, by the samples' ids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from redi_ray.config.locators import ImportedLocator
from redi_ray.config.scorers import ImportedScorer
from redi_ray.data.locate.locator import Bar, Failed, Find, Labelled, Locator, Steps, Work
from redi_ray.data.score.imported import IMPORTED as NUMBERS
from redi_ray.data.score.scorer import Asked
from redi_ray.schemas import TRACE
from redi_ray.store import storage
from redi_ray.text.step_judgement import up_to_first_wrong
from redi_ray.text.steps import RIGHT, WRONG


def _numbers(settings: ImportedLocator) -> ImportedScorer:
    return ImportedScorer(name="imported", paths=settings.paths, trace_id=settings.trace_id, value=settings.first_error)


def _asked(work: Work) -> Asked:
    return Asked(work.prompt, work=storage.join(work.uri, "work"))


def prepare(work: Work, bar: Bar) -> dict[str, Any]:
    """See `redi_ray.data.score.imported`."""
    import ray

    assert isinstance(work.settings.locator, ImportedLocator)
    read = ray.remote(num_cpus=1, max_retries=2)(NUMBERS.prepare)
    try:
        return ray.get(read.remote(_numbers(work.settings.locator), _asked(work)))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None


def start(work: Work, name: str) -> Find:
    """Looks up each sample's number."""
    assert isinstance(work.settings.locator, ImportedLocator)
    values = NUMBERS.start(_numbers(work.settings.locator), _asked(work))
    key = TRACE.field("trace_id")

    def find(row: Mapping[str, Any], steps: Steps) -> Labelled | Failed:
        value = values(pa.table({"trace_id": pa.array([row["trace_id"]], key.type)}))[0]["value"]
        if value is None:
            return Failed("not_in_the_files")
        count = len(steps.spans)
        if value == -1:
            return Labelled([RIGHT] * count)
        if value != int(value) or not 0 <= value < count:
            return Failed("no_such_step", f"step {value:g}, and the sample has {count}, counted from 0")
        return Labelled(up_to_first_wrong([*[RIGHT] * int(value), WRONG], count))

    return find


IMPORTED = Locator(
    start,
    prepare,
    outside=lambda settings: NUMBERS.outside(_numbers(settings)),
    look=lambda settings, where: NUMBERS.look(_numbers(settings), where),
)
