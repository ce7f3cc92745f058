"""Pages from templates, and JSON for the scripts in them."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from fastapi.responses import HTMLResponse, Response
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from redi_ray.report.formats import FILTERS
from redi_ray.store.storage import finite
from redi_ray.ui import words
from redi_ray.ui.assets import asset


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Our templates, and those of the report that pages share; what is put into them is escaped."""
    found = Environment(
        loader=ChoiceLoader([PackageLoader("redi_ray.ui"), PackageLoader("redi_ray.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update({**FILTERS, **words.FILTERS})
    found.globals["asset"] = asset
    return found


def page(template: str, status: int = 200, **values: Any) -> Response:
    """A rendered template. Completions may hold half a surrogate pair, which UTF-8 has no bytes for."""
    text = environment().get_template(template).render(**values)
    return HTMLResponse(text.encode("utf-8", "replace"), status)


def fragment(template: str, block: str, **values: Any) -> str:
    """One block of a template, for pages that change while they are looked at."""
    found = environment().get_template(template)
    return "".join(found.blocks[block](found.new_context(values)))


def as_json(value: Any, status: int = 200) -> Response:
    """JSON in ASCII, numbers that are not finite as null."""
    text = json.dumps(finite(value), allow_nan=False, separators=(",", ":"))
    return Response(text, status, media_type="application/json")
