"""The first page: every run."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from redi_ray.ui.asked import AllPlaces, RunPlace
from redi_ray.ui.render import page

router = APIRouter()


@router.get("/")
def all_runs(places: AllPlaces) -> Response:
    return page("runs.html.j2", runs=places.all(), roots=places.roots, notes=places.notes)


@router.get("/run/{run_id}")
def one_run(place: RunPlace) -> Response:
    return page("run.html.j2", place=place)
