"""A run's report: one self-contained HTML page, the same numbers as JSON, the figures as PNG.

The page needs no network and runs no script; its content security policy forbids both, since it shows what models
wrote, and everything but our own figures is escaped.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from redi_ray.data.embed.spread import NEAR
from redi_ray.report.answers import groups_of_steps, trained_of
from redi_ray.report.beside import all_beside
from redi_ray.report.figures import (
    INK,
    MUTED,
    Line,
    Panel,
    arm_lines,
    curves_figure,
    funnel_figure,
    score_figure,
    to_png,
    to_svg,
)
from redi_ray.report.formats import FILTERS
from redi_ray.report.graph_picture import graph_figure
from redi_ray.report.lineage import alike
from redi_ray.report.notes import missing_and_odd, standings
from redi_ray.report.numbers import PANELS, findings, report_data
from redi_ray.report.runs import ArmRecord, RunRecord, read_run
from redi_ray.report.search import read_search
from redi_ray.report.traces import write_trace_page
from redi_ray.schemas import Verdict
from redi_ray.store import lock
from redi_ray.store.manifests import Manifest, inward, versions
from redi_ray.store.storage import content_hash, finite, join, write_bytes, write_json

SAMPLES_PER_VERDICT: dict[str, int] = {Verdict.CORRECT: 2, Verdict.WRONG: 3}
"""Completions shown for each arm; one for any other verdict."""


@dataclass(frozen=True)
class ReportPaths:
    """Where the report is."""

    html: str
    json: str
    figures: tuple[str, ...]
    traces: str | None = None
    """The page of verified traces, if there are any."""


def build_report(run_uri: str) -> ReportPaths:
    """Read the run's folder and write `<run>/report/`. What has not been run is said on the page.

    Raises StorageError if there is no run at `run_uri`.
    """
    started = time.monotonic()
    run = read_run(run_uri)
    run.notes.extend(missing_and_odd(run))
    target, environment = join(run_uri, "report"), _environment()
    traces = _trace_page(run, target, environment)
    answers = {"groups": groups_of_steps(run), "trained": trained_of(run)}
    search = read_search(run_uri, run.notes)
    report = report_data(run) | ({"search": finite(search.data)} if search else {})
    figures = _figures(run, report)
    if search:
        figures.pictures.update(search.pictures)
    more = {"has_traces": traces is not None, "search": search, **answers}
    html = _render(environment, run, report, figures, more)
    lock.check(run_uri)
    # Completions may hold half a surrogate pair (JSON allows it, UTF-8 does not).
    write_bytes(join(target, "index.html"), html.encode("utf-8", "replace"))
    write_bytes(join(target, "report.json"), json.dumps(report, indent=1, allow_nan=False).encode())
    pictures = {name: join(target, "figures", f"{name}.png") for name in figures.pictures}
    for name, uri in pictures.items():
        write_bytes(uri, figures.pictures[name])
    inputs = {name: manifest.key for name, manifest in run.manifests.items()}
    manifest = Manifest(
        stage="report",
        key=content_hash(inputs)[:16],
        uri=target,
        config={},
        inputs=inputs,
        seconds=round(time.monotonic() - started, 1),
        versions=versions(),
    )
    write_json(join(target, "manifest.json"), inward(asdict(manifest), run_uri))
    return ReportPaths(join(target, "index.html"), join(target, "report.json"), tuple(pictures.values()), traces)


# ------------------------------------------------------------------------------------------------------------ the page


@dataclass(frozen=True)
class _Figures:
    svg: dict[str, Markup]
    """What the page shows: one small figure each, so that they stack on a phone."""
    pictures: dict[str, bytes]
    """PNG files for slides and READMEs, related panels together."""
    groups: list[dict[str, Any]]
    """Training curves: title, arms, names of the panels in `svg`."""
    lines: dict[str, Line]


def _figures(run: RunRecord, report: Mapping[str, Any]) -> _Figures:
    lines = arm_lines([arm.name for arm in run.arms], _plain_colours(run))
    svg, pictures, groups = {}, {}, []
    scores = {benchmark: run.results(benchmark) for benchmark in run.benchmarks}
    if scores:
        pictures["scores"] = to_png(score_figure(scores, lines))
    for number, (benchmark, results) in enumerate(scores.items()):
        svg[f"score-{number}"] = to_svg(score_figure({benchmark: results}, lines), f"score-{number}")
    if (found := standings(run)) is not None:
        figure = graph_figure(run.graph, found)
        svg["graph"], pictures["graph"] = to_svg(figure, "graph"), to_png(figure)
    if any(entry["count"] is not None for entry in report["funnel"]):
        figure = funnel_figure(report["funnel"])
        svg["funnel"], pictures["funnel"] = to_svg(figure, "funnel"), to_png(figure)
    for key, title, arms in _training_groups(run):
        panels = _panels(arms)
        names = [f"{key}-{number}" for number in range(len(panels))]
        for name, panel in zip(names, panels, strict=True):
            svg[name] = to_svg(curves_figure([panel], lines, legend=False), name)
        pictures[f"training_{key}"] = to_png(curves_figure(panels, lines))
        groups.append({"title": title, "arms": [arm.name for arm in arms], "panels": names})
    return _Figures({name: Markup(text) for name, text in svg.items()}, pictures, groups, lines)


def _plain_colours(run: RunRecord) -> dict[str, str]:
    """Grey for the model before any training, ink for the first that was trained: what others are seen against."""
    kinds = {"base": MUTED, "train": INK}
    return {step.name: kinds.pop(step.kind) for step in run.steps("model") if step.kind in kinds}


def _training_groups(run: RunRecord) -> list[tuple[str, str, list[ArmRecord]]]:
    """What shares its panels: a word for file names, a title, the arms. Others differ too much in scale to."""
    trained = {arm.name: arm for arm in run.arms if any(len(step) > 1 for step in arm.steps)}
    groups = []
    for title, names in alike(run.graph, trained):
        word = re.sub(r"[^\w.@-]+", "_", title if len(names) > 1 else names[0])
        groups.append((word, title, [trained[name] for name in names]))
    return groups


def _panels(arms: list[ArmRecord]) -> list[Panel]:
    panels = []
    for key, title, options in PANELS:
        series = {}
        for arm in arms:
            points = [(step["step"], step[key]) for step in arm.steps if key in step]
            if points:
                series[arm.name] = ([x for x, _ in points], [y for _, y in points])
        if series:
            panels.append(Panel(title, series, **options))
    return panels


def _trace_page(run: RunRecord, target: str, environment: Environment) -> str | None:
    finished = {
        step.name: made for step in run.steps("verified") if step.kind == "verify" and (made := run.stages[step.stage])
    }
    verified = list(finished.values())
    counts: Counter[str] = Counter()
    for made in verified:
        counts.update(made.facts.get("verdicts", {}))
    try:
        shards = [shard for name in finished for shard in all_beside(run.uri, run.graph, name)]
        return write_trace_page(target, shards, counts, environment, run.name, run.uri) if verified else None
    except (OSError, KeyError, pa.ArrowException) as error:
        places = ", ".join(made.uri for made in verified)
        run.notes.append(f"{places}: verified traces cannot be read ({type(error).__name__}: {error}).")
        return None


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("redi_ray.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    return environment


def _render(
    environment: Environment, run: RunRecord, report: Mapping[str, Any], figures: _Figures, more: Mapping[str, Any]
) -> str:
    """more: what the template takes besides."""
    return environment.get_template("report.html.j2").render(
        **more,
        report=report,
        run=run,
        figures=figures,
        findings=findings(report),
        near=NEAR,
        ks=_shown_ks(report),
        samples=[(arm.name, chosen) for arm in run.arms if (chosen := _pick_samples(arm.samples))],
        created=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        total_seconds=sum(stage["seconds"] or 0 for stage in report["stages"]),
    )


def _shown_ks(report: Mapping[str, Any]) -> list[str]:
    found = {k for row in report["arms"] for k in row["pass@k"] if k != "1"}
    return sorted(found, key=int)


def _pick_samples(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A few of each verdict, as they come; right ones first."""
    by_verdict: dict[str, list[dict[str, Any]]] = {}
    for sample in samples:
        verdict = str(sample.get("verdict"))
        shown = by_verdict.setdefault(verdict, [])
        if len(shown) < SAMPLES_PER_VERDICT.get(verdict, 1):
            shown.append(sample)
    order = [Verdict.CORRECT, Verdict.WRONG, *sorted(set(by_verdict) - {Verdict.CORRECT, Verdict.WRONG})]
    return [sample for verdict in order for sample in by_verdict.get(verdict, [])]
