"""What a page's address names."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from redi_ray.ui.places import Place, Places


def places_of(request: Request) -> Places:
    """All runs."""
    found: Places = request.app.state.places
    return found


AllPlaces = Annotated[Places, Depends(places_of)]


def run_place(run_id: str, places: AllPlaces) -> Place:
    """The run of `/run/{run_id}/...`. Raises NoSuchRun, which is answered with a page."""
    return places.get(run_id)


RunPlace = Annotated[Place, Depends(run_place)]
"""An argument of a page of a run."""
