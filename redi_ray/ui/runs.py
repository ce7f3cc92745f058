"""The first page: every run, with its state, progress, best score, age and size; any of them can be ticked and compared."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from redi_ray.errors import StorageError
from redi_ray.ui.asked import AllPlaces
from redi_ray.ui.cards import STATES, Card, Extent, card_of, extent_fresh_seconds, extent_of
from redi_ray.ui.places import Place, Places
from redi_ray.ui.render import as_json, fragment, page
from redi_ray.ui.snapshots import Kept, Snapshots

router = APIRouter()

Text = Annotated[str, Query(max_length=200)]
SHOWN = 300
"""Runs on the page, those that were written last."""
POLL_MS, POLL_READING_MS = 5000, 700


@router.get("/")
def all_runs(request: Request, places: AllPlaces, text: Text = "", state: Text = "") -> Response:
    return page("runs.html.j2", **_values(request, places, text, state))


@router.get("/runs.json")
def live(request: Request, places: AllPlaces, text: Text = "", state: Text = "") -> Response:
    """What of the page changes, as it is now."""
    values = _values(request, places, text, state)
    reading = any(card.state is None or card.extent is None for card in values["cards"])
    fragments = {"rows": fragment("runs.html.j2", "rows", **values)}
    return as_json({"fragments": fragments, "again_ms": POLL_READING_MS if reading else POLL_MS})


def _values(request: Request, places: Places, text: str, state: str) -> dict[str, Any]:
    snapshots: Snapshots = request.app.state.snapshots
    extents: Kept[Extent] = request.app.state.extents
    wanted = [place for place in places.all() if matches(place, text)]
    found = snapshots.all(wanted)
    cards = [card_of(place, found[place.id], _extent(extents, place)) for place in wanted]
    counts = {name: sum(card.state == name for card in cards) for name in STATES}
    cards = sorted((card for card in cards if state in ("", card.state)), key=lambda card: card.order)
    return {
        "cards": cards[:SHOWN],
        "left_out": max(0, len(cards) - SHOWN),
        "counts": {name: count for name, count in counts.items() if count or name == state},
        "roots": places.roots,
        "notes": places.notes,
        "text": text,
        "state": state,
        "poll": request.url_for("live").path + f"?{request.url.query}",
        "poll_ms": POLL_READING_MS,
    }


def matches(place: Place, text: str) -> bool:
    """Whether every word of the filter is in the run's name or place."""
    where = f"{place.uri} {place.config or ''}".casefold()
    return all(word in where for word in text.casefold().split())


def _extent(extents: Kept[Extent], place: Place) -> Extent | None:
    try:
        return extents.get(place.uri, lambda: extent_of(place.uri), 0.0)
    except StorageError:
        return None


def card(request: Request, place: Place) -> Card:
    """Of one run."""
    snapshots: Snapshots = request.app.state.snapshots
    found = snapshots.all([place])[place.id]
    return card_of(place, found, _extent(request.app.state.extents, place))


def make_extents(snapshots: Snapshots) -> Kept[Extent]:
    """Sizes, kept for a time by how long nothing was written."""
    return Kept(snapshots.slow_pool, extent_fresh_seconds)
