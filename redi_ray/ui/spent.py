"""What a run has spent so far, beside what its plan expected: tokens and hours of every step in which a model runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from redi_ray.plan.costs import Plan, StageCost
from redi_ray.report.spent import Spent, total
from redi_ray.store.storage import content_hash
from redi_ray.ui.asked import RunPlace
from redi_ray.ui.outside import GPU, Outside, plan_outside, spent_outside
from redi_ray.ui.render import page
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


def make_taken(snapshots: Snapshots) -> Kept[list[Spent] | str]:
    """What runs have taken, by what of them is finished."""
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
    outside: Outside = request.app.state.outside
    made = content_hash({stage: manifest.key for stage, manifest in found.record.manifests.items()})
    taken = request.app.state.taken.get((place.uri, made), lambda: spent_outside(outside, place.uri, config))
    plan = plans.get(content_hash(config), lambda: plan_outside(outside, config))
    if plan is None or taken is None:
        return HTMLResponse("", 202)
    why = next((one for one in (plan, taken) if isinstance(one, str)), "")
    rows = [] if isinstance(plan, str) or isinstance(taken, str) else list(spent_rows(plan, taken))
    return page("spent_part.html.j2", why=why, rows=rows, gpu=GPU)


def spent_rows(plan: Plan, taken: Sequence[Spent]) -> Iterator[SpentRow]:
    """What the plan has priced for the same steps stands in one row."""
    by_step = {one.step: one for one in taken}
    groups: dict[tuple[str, ...], list[StageCost]] = {}
    for stage in plan.stages:
        groups.setdefault(tuple(stage.steps), []).append(stage)
    for steps, stages in groups.items():
        done = [by_step[step] for step in steps if step in by_step]
        whole = total(done)
        yield SpentRow(
            stages[0].name if len(stages) == 1 else ", ".join(steps),
            list(steps),
            len(done),
            sum(stage.tokens for stage in stages),
            (whole.sampled + whole.trained) or None,
            _sum(stage.hours for stage in stages),
            whole.seconds if done else None,
            _sum(stage.price for stage in stages),
            whole.price,
        )


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
