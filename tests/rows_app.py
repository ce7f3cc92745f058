"""The pages of rows by themselves, of one run named `run`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, HTMLResponse
from jinja2 import ChoiceLoader, DictLoader, Environment, PackageLoader

from redi_ray.errors import UserError
from redi_ray.ui.rows import make_router
from redi_ray.ui.token_jobs import TokenJobs

CSP = "default-src 'none'; style-src 'self'; script-src 'self'; form-action 'self'; base-uri 'none'"
BASE = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{% block title %}{% endblock %}</title>
<link rel="stylesheet" href="{{ static }}/rows.css">{% block head %}{% endblock %}</head>
<body>{% block content %}{% endblock %}</body></html>"""


@contextmanager
def rows_app(run: str) -> Iterator[FastAPI]:
    loader = ChoiceLoader([PackageLoader("redi_ray.ui"), DictLoader({"base.html.j2": BASE})])
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    app, jobs = FastAPI(), TokenJobs()

    def render(request: Request, template: str, **values: Any) -> HTMLResponse:
        page = environment.get_template(template).render(static="/static", **values)
        return HTMLResponse(page.encode("utf-8", "replace"), headers={"Content-Security-Policy": CSP})

    app.include_router(make_router({"run": run}.__getitem__, render, jobs))

    @app.exception_handler(UserError)
    def told(request: Request, error: UserError) -> HTMLResponse:
        return HTMLResponse(escape(str(error)), 400)

    @app.get("/static/{name}")
    def static(name: str) -> FileResponse:
        return FileResponse(Path(__file__).parent.parent / "redi_ray" / "ui" / "static" / name)

    try:
        yield app
    finally:
        jobs.close()
