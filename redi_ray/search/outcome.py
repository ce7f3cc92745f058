"""What a search publishes: the table of trials, the winner's config, and the facts that the report is made from.

<run>/search/manifest.json                the search in force
<run>/search/<key>/trials.parquet         one row per trial
<run>/search/<key>/winner.yaml            ready for `redi-ray run`; not there if no trial may win
<run>/search/trials/<key>.json            one record per trial, shared by all searches of the run
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.load import dump_config
from redi_ray.search.plan import SearchPlan
from redi_ray.search.records import TrialRecord
from redi_ray.search.results import SHARES, Point, cost, importances, shown, to_points, to_table, winner, within_one_sem
from redi_ray.search.sections import all_of
from redi_ray.search.space import describe
from redi_ray.stages.run import Run
from redi_ray.store import parquet, storage
from redi_ray.store.manifests import Manifest

TOLD = 12
"""Points that the terminal lists."""


@dataclass(frozen=True)
class Outcome:
    """A search that has been run, whole or as far as its time went."""

    run_uri: str
    manifest: Manifest
    points: list[Point]
    best: Point | None
    """None if nothing was trained to its end without collapsing."""
    winner: ExperimentConfig | None
    winner_uri: str


def publish(plan: SearchPlan, records: Sequence[TrialRecord], started: float) -> Outcome:
    """Choose the winner and write everything down. started: `time.monotonic()` when the search began."""
    points, mode, seeds = to_points(records), plan.search.mode, len(plan.seeds)
    best = winner(points, mode, seeds)
    run = Run.of(plan.config)
    stage = run.stage("search", {"search": plan.search, "trained_with": all_of(plan.config, plan.arm)}, {})
    parquet.write_table(storage.join(stage.uri, "trials.parquet"), to_table(records))
    config, uri = None, storage.join(stage.uri, "winner.yaml")
    storage.delete_file(uri)  # of an earlier, shorter search
    if best is not None:
        config = plan.configured(best.values, plan.seeds[0])
        storage.write_bytes(uri, dump_config(config).encode())
    statuses: Counter[str] = Counter(record.status for record in records)
    unfinished = ("stopped_by_scheduler", "out_of_time", "preempted")
    dropped = {name: statuses[name] for name in unfinished if statuses[name]}
    if missing := plan.num_trials - len(records):
        dropped["not_started"] = missing
    ended = len(records) - sum(statuses[name] for name in (*unfinished, "failed"))
    facts = {
        "arm": plan.arm,
        "metric": plan.metric,
        "mode": mode,
        "method": plan.search.method,
        "scheduler": plan.search.scheduler.kind,
        "seeds": seeds,
        "paths": list(plan.search.space),
        "trials": [record.key for record in records],
        "collapsed": sum(record.collapsed for record in records),
        "winner": told(best) if best else None,
        "within_one_sem": [told(point) for point in within_one_sem(points, best, mode, seeds)] if best else [],
        "importance": [asdict(item) for item in importances(records)],
        "cost": cost(records),
    }
    counts = {"in": plan.num_trials, "out": ended}
    rejected = {"failed": statuses["failed"]} if statuses["failed"] else {}
    manifest = run.publish(stage, started, counts=counts, dropped=dropped, rejected=rejected, facts=facts)
    return Outcome(run.uri, manifest, points, best, config, uri)


def told(point: Point) -> dict[str, Any]:
    """A point for the manifest."""
    return {"values": dict(point.values), "value": point.value, "sem": point.sem}


def print_outcome(outcome: Outcome, console: Console | None = None) -> None:
    """The best points as a table, what the search cost, and the winner's config."""
    console, facts = console or Console(), outcome.manifest.facts
    metric, sign = facts["metric"], -1.0 if facts["mode"] == "max" else 1.0
    ranked = sorted(outcome.points, key=lambda p: (p.collapsed > 0, p.value is None, sign * (p.value or 0.0)))
    table = Table(
        box=SIMPLE_HEAD, title=f"search over {facts['arm']}: {len(facts['trials'])} trials", title_justify="left"
    )
    table.add_column("point", overflow="fold")
    table.add_column(metric + (", %" if metric in SHARES else ""), justify="right")
    table.add_column("SEM", justify="right")
    table.add_column("steps", justify="right")
    table.add_column("how it ended")
    for point in ranked[:TOLD]:
        value, sem = point.value, point.sem
        table.add_row(
            describe(point.values) + (" *" if point is outcome.best else ""),
            "-" if value is None else shown(value, metric),
            "-" if sem is None else shown(sem, metric),
            str(sum(trial.steps for trial in point.trials)),
            ", ".join(sorted({"collapsed" if t.collapsed else t.status.replace("_", " ") for t in point.trials})),
        )
    console.print(table)
    if len(ranked) > TOLD:
        console.print(f"and {len(ranked) - TOLD} more, see {storage.join(outcome.manifest.uri, 'trials.parquet')}")
    spent = facts["cost"]
    console.print(
        f"{spent['steps']:,} of {spent['steps_in_full']:,} steps, {spent['worker_hours']:.3g} worker hours of training",
        highlight=False,
    )
