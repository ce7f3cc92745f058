"""The stage that mixes sources: how many of each, drawn and written, with counts for each."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from redi_ray.cluster.runtime import log
from redi_ray.config.mixture import MixSettings
from redi_ray.data.mix.draw import TABLES, Drawn, draw, parts_of, write_parts
from redi_ray.data.mix.shares import Allocation, allocate
from redi_ray.data.sources.readers import DataError
from redi_ray.stages.problems import mix_stage
from redi_ray.stages.remote import remotely
from redi_ray.stages.run import Run
from redi_ray.store.manifests import Manifest

FINISH = "finish/"
SOURCES = "sources"
"""A fact of a mixture: source -> its counts."""


def mixed(run: Run, name: str, settings: MixSettings, inputs: Mapping[str, Manifest]) -> Manifest:
    """The mixture. inputs: the sources by name. Raises DataError where one has too few problems for its share."""
    stage = mix_stage(run, settings)
    if found := run.reuse(stage):
        return found
    started = time.monotonic()
    rows = {source: inputs[source].counts["out"] for source in settings.of}
    allocation = allocate(settings, rows)
    _tell(name, settings, allocation)
    drawn = {
        source: Drawn(**remotely(draw, inputs[source].files("problems"), source, taken, settings.seed))
        for source, taken in allocation.taken.items()
    }
    tables = {source: {table: inputs[source].files(table) for table in TABLES} for source in settings.of}
    shares = {source: allocation.taken[source] / rows[source] for source in settings.of}
    parts = parts_of({source: (drawn[source], shares[source], tables[source]) for source in drawn}, stage.uri)
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for part, found_counts in write_parts([one for one in parts if one.files]):
        counts[part.source.name, part.table] += found_counts
    told = {source: _of_source(allocation, source, rows[source], inputs[source], counts) for source in settings.of}
    problems = sum((counts[source, "problems"] for source in settings.of), Counter())
    taken = problems["out"]
    assert taken == sum(allocation.taken.values()), (taken, allocation)
    everything = sum(rows.values()) + problems["again"]
    dropped = {"over_its_share": everything - taken} if everything > taken else {}
    facts = {
        SOURCES: told,
        "traces": _traces(settings, inputs, counts),
        "dev": sum(counts[source, "dev"]["out"] for source in settings.of),
    }
    if tests := sum(counts[source, "tests"]["out"] for source in settings.of):
        facts["tests"] = tests
    return run.publish(stage, started, counts={"in": everything, "out": taken}, dropped=dropped, facts=facts)


def _tell(name: str, settings: MixSettings, allocation: Allocation) -> None:
    if not allocation.told:
        return
    told = f"{name}: {'; '.join(allocation.told)}"
    if settings.when_short == "error" and allocation.taken != allocation.asked:
        raise DataError(told)
    log.warning("%s", told)


Counted = Mapping[tuple[str, str], Counter[str]]
"""(source, table) -> its counts."""


def _of_source(allocation: Allocation, source: str, rows: int, of: Manifest, counts: Counted) -> dict[str, Any]:
    """A source's own counts, which reconcile: `in` rows as they came, `problems` of them, `out` of those in the mixture."""
    problems, traces = counts[source, "problems"], counts[source, "imported"]
    taken = allocation.taken[source]
    return {
        "in": of.counts["in"],
        "dropped": dict(of.dropped),
        "rejected": dict(of.rejected),
        "problems": rows,
        "asked": allocation.asked[source],
        "out": taken,
        "again": problems["again"],
        "epochs": round(taken / rows, 4),
        "traces": traces["out"],
        "tests": counts[source, "tests"]["out"],
    }


def _traces(settings: MixSettings, inputs: Mapping[str, Manifest], counts: Counted) -> dict[str, Any]:
    """Of the traces that came with the problems, as a stage `problems` tells it."""
    total = sum((counts[source, "imported"] for source in settings.of), Counter())
    there = sum(inputs[source].facts.get("traces", {}).get("out", 0) for source in settings.of) + total["again"]
    left = there - total["out"]
    reasons = {key.removeprefix(FINISH): count for key, count in sorted(total.items()) if key.startswith(FINISH)}
    dropped = {"over_its_share": left} if left else {}
    return {"in": there, "out": total["out"], "dropped": dropped, "rejected": {}, "finish_reasons": reasons}
