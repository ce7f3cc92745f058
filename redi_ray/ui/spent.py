"""What a run has spent so far, beside what its plan expected: tokens and hours of every step in which a model runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from redi_ray.errors import StorageError
from redi_ray.plan.costs import Plan
from redi_ray.report.runs import ArmRecord, metrics_of
from redi_ray.store.manifests import Manifest
from redi_ray.store.storage import content_hash
from redi_ray.ui.asked import RunPlace
from redi_ray.ui.outside import GPU, plan_outside
from redi_ray.ui.render import page
from redi_ray.ui.series import AllSeries
from redi_ray.ui.snapshot import Snapshot
from redi_ray.ui.snapshots import Kept, Snapshots

router = APIRouter()


@dataclass(frozen=True)
class SpentRow:
    """What the plan prices together; None where it is not known, or nothing was spent."""

    name: str
    steps: list[str]
    finished: int
    planned_tokens: float
    tokens: float | None
    planned_hours: float | None
    """On the clock, on the GPUs that the config asks for."""
    seconds: float | None
    planned_price: float | None
    price: float | None


def make_plans(snapshots: Snapshots) -> Kept[Plan | str]:
    """Plans by config, made once; or why there is none."""
    return Kept(snapshots.slow_pool, lambda found: float("inf"))


@router.get("/run/{run_id}/spent")
def spent(request: Request, place: RunPlace) -> Response:
    """A part of the run's page; 202 while the plan is being made."""
    snapshots: Snapshots = request.app.state.snapshots
    plans: Kept[Plan | str] = request.app.state.plans
    found = snapshots.get(place)
    if found is None:
        return HTMLResponse("", 202)
    config = found.record.config
    plan = plans.get(content_hash(config), lambda: plan_outside(request.app.state.outside, config))
    if plan is None:
        return HTMLResponse("", 202)
    rows = [] if isinstance(plan, str) else list(spent_rows(plan, found, request.app.state.series))
    return page("spent_part.html.j2", why=plan if isinstance(plan, str) else "", rows=rows, gpu=GPU)


def spent_rows(plan: Plan, found: Snapshot, series: AllSeries) -> Iterator[SpentRow]:
    """What the plan has priced for the same steps stands in one row."""
    made = {step.name: found.record.manifests.get(step.stage) for step in found.record.graph}
    arms = {arm.name: arm for arm in found.record.arms}
    groups: dict[tuple[str, ...], list[Any]] = {}
    for stage in plan.stages:
        groups.setdefault(tuple(stage.steps), []).append(stage)
    for steps, stages in groups.items():
        done = [manifest for step in steps if (manifest := made.get(step)) is not None]
        hours = [stage.hours for stage in stages if stage.hours is not None]
        prices = [stage.price for stage in stages if stage.price is not None]
        paid = [manifest.facts["cost"] for manifest in done if "cost" in manifest.facts]
        tokens = [_tokens(step, made.get(step), arms, series) for step in steps]
        known = [count for count in tokens if count is not None]
        yield SpentRow(
            stages[0].name if len(stages) == 1 else ", ".join(steps),
            list(steps),
            len(done),
            sum(stage.tokens for stage in stages),
            sum(known) if known else None,
            sum(hours) if hours else None,
            sum(manifest.seconds for manifest in done) if done else None,
            sum(prices) if prices else None,
            sum(paid) if paid else None,
        )


def _tokens(step: str, made: Manifest | None, arms: dict[str, ArmRecord], series: AllSeries) -> float | None:
    """That a model read in training, or wrote."""
    if made is None:
        return None
    if made.stage.startswith("eval/"):
        results: Sequence[Any] = list(arms[step.removeprefix("eval/")].results.values())
        return sum(one.mean_tokens * one.num_problems * one.num_samples for one in results) or None
    if made.stage.startswith("checkpoints/"):
        try:
            counts = series.get(metrics_of(made.uri), complete=True).column("total_tokens")[1]
        except StorageError:
            return None
        return float(counts.sum()) if len(counts) else None
    return made.facts.get("tokens")
