"""A run's page: where it stands, its graph, what is at work, scores, curves, and what it was made from. It goes on by itself."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from redi_ray.pipeline.kinds import KINDS
from redi_ray.report.numbers import funnel
from redi_ray.ui.asked import RunPlace
from redi_ray.ui.picture import picture
from redi_ray.ui.places import Place
from redi_ray.ui.render import as_json, fragment, page
from redi_ray.ui.scores import benchmarks
from redi_ray.ui.snapshot import Snapshot
from redi_ray.ui.snapshots import Snapshots
from redi_ray.ui.trainings import training_rows

router = APIRouter()

Against = Annotated[str, Query(max_length=200)]
POLL_MS = {"running": 2000}
POLL_AT_REST_MS, POLL_READING_MS = 10_000, 700
FRAGMENTS = ("status", "work", "graph", "scores", "trainings", "notes", "steps")
"""Blocks of the page that are drawn anew."""
NOT_RUN = ": not run."
"""Ends a note that says no more than the graph does."""


@router.get("/run/{run_id}")
def one_run(request: Request, place: RunPlace, against: Against = "") -> Response:
    snapshots: Snapshots = request.app.state.snapshots
    found = snapshots.get(place)
    if found is None:
        return page("reading.html.j2", place=place, poll=f"{place.path}/live.json", poll_ms=POLL_READING_MS)
    return page("run.html.j2", **_values(request, place, found, against))


@router.get("/run/{run_id}/live.json")
def live(request: Request, place: RunPlace, against: Against = "") -> Response:
    """What of the page changes, as it is now; `reload` for a page that has been waiting for its run."""
    snapshots: Snapshots = request.app.state.snapshots
    found = snapshots.get(place)
    if found is None:
        return as_json({"fragments": {}, "again_ms": POLL_READING_MS})
    values = _values(request, place, found, against)
    fragments = {name: fragment("run.html.j2", name, **values) for name in FRAGMENTS}
    again = POLL_MS.get(found.standing.state, POLL_AT_REST_MS)
    return as_json({"fragments": fragments, "again_ms": again, "ready": True, "running": again == POLL_MS["running"]})


def _values(request: Request, place: Place, found: Snapshot, against: str) -> dict[str, Any]:
    run, stands = found.record, found.standing
    running = stands.state == "running"
    links = {
        state.step.name: f"{place.path}/rows?step={state.step.name}"
        for state in stands.steps
        if state.standing == "finished" and KINDS[state.step.kind].tables
    }
    notes = [note for note in found.notes if not note.endswith(NOT_RUN)]
    scores = benchmarks(run, against)
    return {
        "place": place,
        "run": run,
        "stands": stands,
        "running": running,
        "works": found.works,
        "next": found.next if running and not found.works else [],
        "picture": picture(run.graph, stands.steps, found.works, links, running=running) if stands.steps else None,
        "links": links,
        "scores": scores,
        "control": next((b.rows for b in scores), None) and _control(run, against),
        "trainings": training_rows(request.app.state.series, found),
        "funnel": funnel(run),
        "notes": notes,
        "not_run": [note for note in found.notes if note.endswith(NOT_RUN)],
        "versions": next((m.versions for m in reversed(run.manifests.values())), {}),
        "seconds": {name: made.seconds for name, made in run.manifests.items() if made.seconds},
        "against": against,
        "has_search": bool(run.config.get("search")),
        "poll": f"{place.path}/live.json?{request.url.query}",
        "poll_ms": POLL_MS.get(stands.state, POLL_AT_REST_MS),
    }


def _control(run: Any, against: str) -> str | None:
    return against if against in {arm.name for arm in run.arms} else run.control
