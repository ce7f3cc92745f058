"""Styles and scripts: the package's own, the report's style, and plotly.js out of the Python package `plotly`.

Their addresses carry a hash of the content, so that browsers keep them until they change.
"""

from __future__ import annotations

import gzip
import hashlib
from functools import lru_cache
from importlib.resources import files

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response

router = APIRouter()

FILES = {
    "report.css": ("redi_ray.report", "templates/style.css"),
    "ui.css": ("redi_ray.ui", "static/ui.css"),
    "live.js": ("redi_ray.ui", "static/live.js"),
    "runs.js": ("redi_ray.ui", "static/runs.js"),
    "parts.js": ("redi_ray.ui", "static/parts.js"),
    "charts.js": ("redi_ray.ui", "static/charts.js"),
    "rows.css": ("redi_ray.ui", "static/rows.css"),
    "rows.js": ("redi_ray.ui", "static/rows.js"),
    "tokens.js": ("redi_ray.ui", "static/tokens.js"),
    "plotly.js": ("plotly", "package_data/plotly.min.js"),
}
"""Name -> package and file."""
TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
FOR_A_YEAR = "public, max-age=31536000, immutable"


@lru_cache(maxsize=64)
def content(name: str) -> bytes:
    """Compressed. Raises KeyError for a name that is none of ours."""
    package, path = FILES[name]
    return gzip.compress(files(package).joinpath(path).read_bytes(), compresslevel=6, mtime=0)


@lru_cache(maxsize=64)
def asset(name: str) -> str:
    """Its address."""
    return f"/assets/{name}?v={hashlib.sha256(content(name)).hexdigest()[:12]}"


@router.get("/assets/{name}")
def get_asset(name: str, request: Request) -> Response:
    """One of them; compressed for whoever takes that, as every browser does."""
    if name not in FILES:
        raise HTTPException(404)
    headers, body = {"Cache-Control": FOR_A_YEAR, "Vary": "Accept-Encoding"}, content(name)
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
    else:
        body = gzip.decompress(body)
    return Response(body, media_type=TYPES[name[name.rindex(".") :]], headers=headers)
