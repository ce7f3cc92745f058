"""Pages of rows: a list with a form to filter it, one row with its texts, its tokens in colours, and its texts as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request
from fastapi.responses import PlainTextResponse, Response

from redi_ray.report.filters import BrowseError
from redi_ray.report.row_pages import MOST_SECONDS, Page, StillLooking, find_row, page
from redi_ray.report.row_parts import RowView, texts_of, view_of, without_middle
from redi_ray.report.row_places import Place, Row, read_places, read_rows
from redi_ray.report.row_tables import RowTable
from redi_ray.report.token_series import WEIGHT
from redi_ray.schemas import Verdict
from redi_ray.ui.asked import RunPlace
from redi_ray.ui.render import page as render
from redi_ray.ui.row_colours import Coloured, column_row
from redi_ray.ui.row_lists import listed
from redi_ray.ui.row_queries import AMONG, RowQuery, query
from redi_ray.ui.run_rows import SECONDS, graph_of, steps_with_rows, table_of
from redi_ray.ui.token_jobs import TokenJobs

LONGER_SECONDS = 20
"""Looking further takes so long at the most."""
FROM_ELSEWHERE = ("cross-site", "same-site")
"""What browsers call a request that another page has made: such a one starts no work."""

RANGES = tuple(f"{name}_{end}" for name in ("score", "tokens", "chars") for end in ("from", "to"))
NAMES = ("text", "table", "score", "voter", "vote", "problem", "source", "after", "before", *AMONG, *RANGES)
"""What a form or a link may say once."""
WAYS = ("previous", "next", "further", "first")

router = APIRouter()


def jobs_of(request: Request) -> TokenJobs:
    """The work on tokens that was asked for."""
    found: TokenJobs = request.app.state.token_jobs
    return found


@router.get("/run/{run_id}/rows")
def rows_page(place: RunPlace, request: Request) -> Response:
    """The rows of a step, or the steps that have some."""
    return render("rows.html.j2", place=place, **list_page(place.uri, request.query_params.multi_items()))


@router.get("/run/{run_id}/row")
def row_page(place: RunPlace, request: Request, jobs: Annotated[TokenJobs, Depends(jobs_of)]) -> Response:
    """One row."""
    asked = request.query_params.multi_items()
    elsewhere = request.headers.get("sec-fetch-site") in FROM_ELSEWHERE
    try:
        return render("row.html.j2", place=place, **one_row(place.uri, asked, jobs, asked_for=not elsewhere))
    except StillLooking as found:
        return render("looking.html.j2", 202, place=place, name=without_middle(found.name, 200), looked=found.looked)


@router.get("/run/{run_id}/row.txt")
def row_text(place: RunPlace, request: Request) -> Response:
    """A text of a row as it is."""
    asked = request.query_params.multi_items()
    _, _, row = _found(place.uri, asked, MOST_SECONDS)
    texts, name = texts_of(row), dict(asked).get("part", "")
    if name not in texts:
        raise BrowseError(f"this row has no text {name!r}; it has {', '.join(texts) or 'none'}")
    return PlainTextResponse(texts[name].encode("utf-8", "replace"))


def list_page(run: str, asked: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """What the list of rows shows. Raises a UserError for what cannot be asked for."""
    graph, wanted, steps = graph_of(run), RowQuery.parse(asked), steps_with_rows(run)
    if not wanted.step:
        return {"steps": steps, "table": None, "step": "", "query": query, "asked": asked}
    named = graph[wanted.step]
    learnt = named.name if named.kind == "train" else ""
    table = table_of(run, named.inputs["groups"] if learnt else named.name, wanted.table)
    link = partial(
        row_link, table, step=table.step if learnt else named.name, colour=f"{WEIGHT}:{learnt}" if learnt else ""
    )
    found = page(table, wanted.wanted, after=wanted.after, before=wanted.before, seconds=wanted.seconds or SECONDS)
    first = 1 if wanted.after is None and wanted.before is None else wanted.first
    return {
        "steps": steps,
        "table": table,
        "step": wanted.step,
        "page": found,
        "first": first,
        "rows": [listed(row, table, link(row), wanted.wanted.text or "") for row in found.rows],
        "links": _ways(found, asked, first, backwards=wanted.before is not None),
        "learnt": learnt,
        "fields": _fields(table, found.rows),
        "given": dict.fromkeys(NAMES, "") | _given(asked),
        "verdicts": [value for name, value in asked if name == "verdict"],
        "filtered": _is_filtered(asked),
        "asked": asked,
        "query": query,
    }


def _given(asked: Sequence[tuple[str, str]]) -> dict[str, str]:
    return {name: value for name, value in asked if value.strip()}


def _is_filtered(asked: Sequence[tuple[str, str]]) -> bool:
    return any(value.strip() and name not in ("step", "table", "after", "before", "n") for name, value in asked)


def row_link(table: RowTable, row: Row, step: str, colour: str = "") -> str:
    """Parameters that name a row: its id, where it has one, and where it is; and a colour that its tokens are shown in."""
    told = {"step": step, "table": table.table}
    if table.id_column is not None:
        told["id"] = str(row.values[table.id_column])
    return urlencode({**told, "at": str(row.place), **({"colour": colour} if colour else {})})


def _ways(found: Page, asked: Sequence[tuple[str, str]], first: int | None, *, backwards: bool) -> dict[str, str]:
    """The links to other pages."""
    ways = dict.fromkeys(WAYS, "")
    moved = ("after", "before", "n", "seconds")
    if found.previous is not None:
        number = None if first is None else max(1, first - len(found.rows))
        ways["previous"] = query(asked, moved, before=found.previous, n=number)
    if found.following is not None:
        number = None if first is None else first + len(found.rows)
        ways["next"] = query(asked, moved, after=found.following, n=number)
    if found.further is not None:
        way = {"before" if backwards else "after": found.further}
        ways["further"] = query(asked, moved, seconds=LONGER_SECONDS, **way)
    ways["first"] = query(asked, moved)
    return ways


def _fields(table: RowTable, rows: Sequence[Row]) -> dict[str, Any]:
    """What the form offers for these rows: values that are known, or seen on the page."""
    names = table.schema.names
    seen = {
        name: sorted({str(row.values[name]) for row in rows if row.values.get(name)}) for name in ("source", *AMONG)
    }
    voters = {one["verifier"] for row in rows for one in row.values.get("verdict_by") or [] if isinstance(one, dict)}
    return {
        "verdicts": [str(verdict) for verdict in Verdict] if "verdict" in names else [],
        "votes": [str(verdict) for verdict in Verdict] if {"verdict_by", "votes"} & set(names) else [],
        "voters": sorted(voters),
        "words": {
            name: seen[name] for name in ("source", *AMONG) if name in names and (name == "source" or seen[name])
        },
        "problem": "problem_id" in names,
        "tokens": "num_tokens" in names,
        "chars": "completion" in names,
        "scores": table.numeric,
    }


def _found(run: str, asked: Sequence[tuple[str, str]], seconds: float) -> tuple[RowTable, Place, dict[str, Any]]:
    """The row that a link names. Raises a UserError where it is not there, StillLooking where it is not found in time."""
    one = dict(asked)
    table = table_of(run, one.get("step", ""), one.get("table"))
    hint = Place.parse(one["at"]) if one.get("at") else None
    if hint is None and "id" not in one:
        raise BrowseError("a link to a row names its id, or its place")
    place = find_row(table, one.get("id", ""), hint, seconds) if "id" in one else hint
    assert place is not None
    return table, place, read_rows(table.shard(place.shard), [place.row], large=True)[place.row]


def one_row(run: str, asked: Sequence[tuple[str, str]], jobs: TokenJobs, *, asked_for: bool = True) -> dict[str, Any]:
    """What the page of a row shows. asked_for: whether work may be begun for it. Raises a
    UserError; StillLooking where it, or a trace that it was made of, is not found in time."""
    table, place, row = _found(run, asked, SECONDS)
    one = dict(asked)
    trace = str(row.get("trace_id"))
    columns = {name: column_row(table, place.shard, place.row, name, trace) for name in table.beside}
    coloured = Coloured(run, table, row, columns, jobs)
    scored = [name for key, value in asked if key == "score" for name in value.split(",") if name] if asked_for else []
    if unknown := [name for name in scored if name not in coloured.models]:
        raise BrowseError(f"no finished model {unknown[0]}; there are {', '.join(coloured.models) or 'none'}")
    colours = coloured.shown(one.get("colour", "") if asked_for else "", scored)
    plain = {name: said for name, said in columns.items() if table.grain(name) != "token"}
    view: RowView = view_of(row, plain, whole=bool(one.get("whole")))
    ids = {"step": one["step"], "table": table.table, **({"id": one["id"]} if "id" in one else {}), "at": str(place)}
    return {
        "table": table,
        "step": one["step"],
        "title": without_middle(one.get("id") or str(place), 200),
        "verdict": row.get("verdict"),
        "problem_id": row.get("problem_id"),
        "view": view,
        "parts": colours.parts or view.parts,
        "colours": colours,
        "whole": bool(one.get("whole")),
        "link": urlencode(ids),
        "query": query,
        "asked": asked,
        "neighbours": _neighbours(table, place, one["step"]),
        "traces": [(samples, trace) for samples in coloured.samples()[:1] for trace in coloured.traces()],
    }


def _neighbours(table: RowTable, place: Place, step: str) -> Mapping[str, str]:
    """The rows before and behind one, in its file."""
    found = {"previous": "", "next": ""}
    for name, row in (("previous", place.row - 1), ("next", place.row + 1)):
        try:
            near = read_places(table, [Place(place.shard, row)] if row >= 0 else [])
        except BrowseError:  # it is the last
            continue
        if near:
            found[name] = row_link(table, near[0], step)
    return found
