"""The funnel of each source of a mixture, by kind of verification, as the manifests have it, and whether it adds up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from redi_ray.pipeline.graph import Step
from redi_ray.report.runs import RunRecord
from redi_ray.store.manifests import Manifest

UNKNOWN = "unknown"
SOURCES, BY_SOURCE = "sources", "by_source"
"""Facts of a mixture, and of steps on its traces."""


def mixtures(run: RunRecord) -> list[dict[str, Any]]:
    """Of each mixture that is there: its sources with licence and counts, `kinds` below each, and the same of all sources.

    Of a source `in = problems + dropped + rejected`, `problems + again = out + over_its_share`; of a kind of verification
    `problems = positives + dropped`, as curation counts them. odd: what does not add up, in words.
    """
    found = []
    for step in run.steps("problems"):
        manifest = run.stages[step.stage]
        if step.kind == "mix" and manifest is not None and SOURCES in manifest.facts:
            found.append(_mixture(run, step, manifest))
    return found


def _mixture(run: RunRecord, step: Step, manifest: Manifest) -> dict[str, Any]:
    behind = _behind(run, step)
    sources = [_source(run, name, told, behind) for name, told in manifest.facts[SOURCES].items()]
    kinds: dict[str, dict[str, Any]] = {}
    for source in sources:
        for kind, counts in source["kinds"].items():
            kinds[kind] = _added(kinds.get(kind, {}), counts)
    return {
        "name": step.name,
        "size": manifest.counts["out"],
        "sources": sources,
        "kinds": kinds,
        "odd": [line for source in sources for line in _odd(source)] + _odd_sums(manifest, sources, behind),
    }


def _behind(run: RunRecord, mixture: Step) -> dict[str, Manifest]:
    """Finished steps that count by its sources, in the graph's order."""
    found = {}
    for step in run.graph:
        manifest = run.stages.get(step.stage)
        if manifest is not None and BY_SOURCE in manifest.facts and step.inputs.get("problems") == mixture.name:
            found[step.name] = manifest
    return found


def _source(run: RunRecord, name: str, told: Mapping[str, Any], behind: Mapping[str, Manifest]) -> dict[str, Any]:
    settings = run.graph[name].settings if name in run.graph.steps else None
    kinds: dict[str, dict[str, Any]] = {}
    for step, manifest in behind.items():
        gives = run.graph[step].gives
        for kind, counts in manifest.facts[BY_SOURCE].get(name, {}).items():
            kinds.setdefault(kind, {"traces": {}, "verdicts": {}, "curated": {}})
            field = {"traces": "traces", "verified": "verdicts", "groups": "curated"}[gives]
            kinds[kind][field][step] = counts
    over = told["problems"] + told["again"] - told["out"]
    return {
        "name": name,
        "licence": getattr(settings, "licence", None) or UNKNOWN,
        **told,
        "over_its_share": over,
        "kinds": kinds,
    }


def _added(one: Any, other: Any) -> Any:
    """Counts of two kinds of verification, name by name."""
    if isinstance(one, dict) or isinstance(other, dict):
        these, those = one or {}, other or {}  # a step that has nothing of a source counts nothing of it
        return {name: _added(these.get(name), those.get(name)) for name in dict.fromkeys([*these, *those])}
    return (one or 0) + (other or 0)


def _odd(source: Mapping[str, Any]) -> list[str]:
    """What does not add up within a source."""
    found = []
    accounted = source["problems"] + sum(source["dropped"].values()) + sum(source["rejected"].values())
    if source["in"] != accounted:
        found.append(f"{source['name']}: {source['in']:,} rows, {accounted:,} accounted for")
    for kind, counts in source["kinds"].items():
        for step, told in counts["curated"].items():
            accounted = told["positives"] + sum(told["dropped"].values())
            if told["problems"] != accounted:
                found.append(
                    f"{source['name']} ({kind}): {told['problems']:,} problems in {step}, {accounted:,} accounted for"
                )
    return found


def _odd_sums(manifest: Manifest, sources: list[dict[str, Any]], behind: Mapping[str, Manifest]) -> list[str]:
    """What the sources together have otherwise than the steps that they are of."""
    found = []
    if manifest.counts["out"] != sum(source["out"] for source in sources):
        found.append("the sources have other problems than the mixture")
    for name, step in behind.items():
        told = Counter[str]()
        for source in step.facts[BY_SOURCE].values():
            for counts in source.values():
                told.update(_flat(counts))
        wanted = step.counts.get("positives") if "positives" in step.counts else step.counts.get("out")
        have = told["positives"] if "positives" in step.counts else told["rows"]
        if wanted != have:
            found.append(f"{name}: {wanted:,} rows, {have:,} by source")
    return found


def _flat(counts: Any) -> dict[str, int]:
    """Rows of a table of traces, or positives."""
    if isinstance(counts, int):
        return {"rows": counts}
    return {"positives": counts["positives"]} if "positives" in counts else {"rows": sum(counts.values())}
