"""The application: the guard, the pages, and what is answered when something is wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from redi_ray.errors import StorageError, UserError
from redi_ray.ui import assets, chat, compare, curves, overview, rows, runs, search, spent
from redi_ray.ui.guard import HEADERS, LOOPBACK, Guard
from redi_ray.ui.outside import Outside
from redi_ray.ui.places import NoSuchRun, Places
from redi_ray.ui.render import page
from redi_ray.ui.series import AllSeries
from redi_ray.ui.snapshots import Snapshots
from redi_ray.ui.token_jobs import TokenJobs

ROUTERS = (
    assets.router, runs.router, overview.router, curves.router, search.router, spent.router, compare.router, rows.router,
    chat.router,
)  # fmt: skip
"""A router for each kind of page. A page of a run lies below `/run/{run_id}` and takes `place: RunPlace`."""


def create_app(roots: Sequence[str], token: str | None = None, hosts: Iterable[str] = LOOPBACK) -> FastAPI:
    """The pages over the runs below `roots`. token, hosts: see `redi_ray.ui.guard.Guard`."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=_alive)
    app.state.places = Places(roots)
    app.state.outside = Outside()
    app.state.series = AllSeries()
    app.state.snapshots = Snapshots(app.state.outside, app.state.series)
    app.state.extents = runs.make_extents(app.state.snapshots)
    app.state.plans = spent.make_plans(app.state.snapshots)
    app.state.taken = spent.make_taken(app.state.snapshots)
    app.state.token_jobs = TokenJobs()
    app.state.talk = chat.Talk()
    app.add_middleware(Guard, token=token, hosts=hosts)
    for router in ROUTERS:
        app.include_router(router)
    app.add_exception_handler(UserError, _told)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _wrong)
    app.add_exception_handler(Exception, _unexpected)
    return app


@asynccontextmanager
async def _alive(app: FastAPI) -> AsyncIterator[None]:
    """While the pages are served the process beside them is there; none of theirs stays behind."""
    app.state.outside.begin()
    yield
    app.state.outside.end()
    app.state.token_jobs.close()
    app.state.talk.process.close()


def _told(request: Request, error: Exception) -> Response:
    status = 404 if isinstance(error, NoSuchRun) else 502 if isinstance(error, StorageError) else 400
    return page("error.html.j2", status, title="Not there" if status == 404 else "Cannot be shown", message=str(error))


def _refused(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 500)
    message = "There is no such page." if status == 404 else "This cannot be asked."
    return page("error.html.j2", status, title="Not there" if status == 404 else "Not so", message=message)


def _wrong(request: Request, error: Exception) -> Response:
    """Of parameters that are not what their page takes."""
    assert isinstance(error, RequestValidationError)
    told = "; ".join(f"{found['loc'][-1]}: {found['msg']}" for found in error.errors())
    return page("error.html.j2", 400, title="Cannot be shown", message=told)


def _unexpected(request: Request, error: Exception) -> Response:
    """The terminal has the traceback. This answer is made outside of the guard, so it takes the guard's headers along."""
    told = f"{type(error).__name__}: {error}"
    message = f"{told}. A damaged file may be the cause; the terminal that `redi-ray ui` runs in has more."
    answer = page("error.html.j2", 500, title="Cannot be shown", message=message)
    answer.headers.update(HEADERS)
    return answer
