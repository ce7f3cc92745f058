"""The stage that mixes sources: how many of each, drawn and written, with counts for each."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from redi_ray.cluster.runtime import log
from redi_ray.config.mixture import MixSettings
from redi_ray.data.mix.draw import TABLES, draw, parts_of, write_parts
from redi_ray.data.mix.overlaps import Left, held_out_elsewhere
from redi_ray.data.mix.shares import Allocation, allocate
from redi_ray.data.sources.problems import HELD_OUT
from redi_ray.data.sources.readers import DataError
from redi_ray.data.sources.tests_table import TESTS_TABLE, write_sources
from redi_ray.stages.problems import mix_stage
from redi_ray.stages.remote import remotely
from redi_ray.stages.run import Run
from redi_ray.store import storage
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
    tables = {source: {table: inputs[source].files(table) for table in TABLES} for source in settings.of}
    held = _held_out(tables)
    rows = {source: inputs[source].counts["out"] - len(held[source][0]) for source in settings.of}
    allocation = allocate(settings, rows)
    _tell(name, settings, allocation)
    drawn = {
        source: remotely(draw, tables[source]["problems"], source, taken, settings.seed, held[source][0])
        for source, taken in allocation.taken.items()
    }
    shares = {source: taken / max(1, rows[source]) for source, taken in allocation.taken.items()}
    parts = parts_of({source: (drawn[source], shares[source], tables[source]) for source in drawn}, stage.uri)
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for part, found_counts in write_parts([one for one in parts if one.files]):
        counts[part.source.name, part.table] += found_counts
    told = {source: _of_source(allocation, source, inputs[source], counts, held) for source in settings.of}
    problems = sum((counts[source, "problems"] for source in settings.of), Counter())
    taken = problems["out"]
    assert taken == sum(allocation.taken.values()), (taken, allocation)
    left = sum(len(ids) for ids, _ in held.values())
    everything = sum(rows.values()) + problems["again"]
    dropped = ({"over_its_share": everything - taken} if everything > taken else {}) | (
        {HELD_OUT: left} if left else {}
    )
    facts = {
        SOURCES: told,
        "traces": _traces(settings, inputs, counts, held),
        "dev": sum(counts[source, "dev"]["out"] for source in settings.of),
    }
    if tests := sum(counts[source, "tests"]["out"] for source in settings.of):
        facts["tests"] = tests
        write_sources(storage.join(stage.uri, TESTS_TABLE), settings.of)
    return run.publish(stage, started, counts={"in": everything + left, "out": taken}, dropped=dropped, facts=facts)


def _held_out(tables: Mapping[str, Mapping[str, list[str]]]) -> Left:
    """What must be left out of each source since another one holds it out for development."""
    dev = [shard for of in tables.values() for shard in of["dev"]]
    shards = {table: {source: of[table] for source, of in tables.items()} for table in ("problems", "imported")}
    found: Left = remotely(held_out_elsewhere, dev, shards["problems"], shards["imported"]) if dev else {}
    return {source: ([], 0) for source in tables} | found


def _tell(name: str, settings: MixSettings, allocation: Allocation) -> None:
    if not allocation.told:
        return
    told = f"{name}: {'; '.join(allocation.told)}"
    if settings.when_short == "error" and allocation.taken != allocation.asked:
        raise DataError(told)
    log.warning("%s", told)


Counted = Mapping[tuple[str, str], Counter[str]]
"""(source, table) -> its counts."""


def _of_source(allocation: Allocation, source: str, of: Manifest, counts: Counted, held: Left) -> dict[str, Any]:
    """A source's own counts, which reconcile: `in` rows as they came, `problems` of them, `out` of those in the mixture."""
    problems, traces = counts[source, "problems"], counts[source, "imported"]
    taken, left = allocation.taken[source], len(held[source][0])
    rows, before = of.counts["out"] - left, of.dropped.get(HELD_OUT, 0)
    return {
        "in": of.counts["in"],
        "dropped": dict(of.dropped) | ({HELD_OUT: before + left} if left else {}),
        "rejected": dict(of.rejected),
        "problems": rows,
        "asked": allocation.asked[source],
        "out": taken,
        "again": problems["again"],
        "epochs": round(taken / max(1, rows), 4),
        "traces": traces["out"],
        "tests": counts[source, "tests"]["out"],
    }


def _traces(settings: MixSettings, inputs: Mapping[str, Manifest], counts: Counted, held: Left) -> dict[str, Any]:
    """Of the traces that came with the problems, as a stage `problems` tells it."""
    total = sum((counts[source, "imported"] for source in settings.of), Counter())
    there = sum(inputs[source].facts.get("traces", {}).get("out", 0) for source in settings.of) + total["again"]
    kept_back = sum(number for _, number in held.values())
    left = there - total["out"] - kept_back
    reasons = {key.removeprefix(FINISH): count for key, count in sorted(total.items()) if key.startswith(FINISH)}
    dropped = ({"over_its_share": left} if left else {}) | ({HELD_OUT: kept_back} if kept_back else {})
    return {"in": there, "out": total["out"], "dropped": dropped, "rejected": {}, "finish_reasons": reasons}
