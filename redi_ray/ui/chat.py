"""A page that asks a run's models: a form, and their answers side by side. No script; what was said travels in the form.

Models are held by a process of its own, one question at a time (`redi_ray.talk.process`). A question needs a POST from our own
page, with the key that the page has been given: a page elsewhere can neither send it nor read it.
"""

from __future__ import annotations

import hmac
import json
import secrets
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from redi_ray.errors import UserError
from redi_ray.pipeline.asked import is_reward
from redi_ray.pipeline.standard import graph_of
from redi_ray.talk.models import finished_models, run_of
from redi_ray.talk.process import MOST_CHARS, Busy, TalkProcess
from redi_ray.ui.asked import RunPlace
from redi_ray.ui.places import Place
from redi_ray.ui.render import page

router = APIRouter()
MOST_BYTES = 8 * MOST_CHARS
"""Of a form: each character is up to twelve bytes there, and most are one."""


@dataclass
class Talk:
    """What the pages of one server share."""

    process: TalkProcess = field(default_factory=TalkProcess)
    key: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    """In every form, and asked for with every question."""


@dataclass(frozen=True)
class Form:
    """What is filled in."""

    models: list[str]
    question: str = ""
    problem: str = ""
    temperature: float | None = None
    """null is the run's."""
    max_tokens: int = 1024
    told: list[dict[str, Any]] = field(default_factory=list)
    """Rounds so far: the question, the problem, what was said."""
    histories: dict[str, Any] = field(default_factory=dict)


@router.get("/run/{run_id}/chat")
def chat_page(place: RunPlace, request: Request) -> Response:
    models = speakers(place)
    return _page(request, place, models, Form(models[-1:]))


@router.post("/run/{run_id}/chat")
async def ask(place: RunPlace, request: Request) -> Response:
    talk: Talk = request.app.state.talk
    try:
        fields = parse_qs((await _body(request)).decode(errors="replace"), keep_blank_values=True, max_num_fields=50)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"this is no question as the page sends it ({error})") from None
    if not hmac.compare_digest(fields.get("key", [""])[0].encode(), talk.key.encode()):
        raise UserError("this page is an old one; load it again")
    models = await run_in_threadpool(speakers, place)
    form = form_of(fields)
    if "new" in fields:
        return _page(request, place, models, Form(form.models))
    try:
        found = await run_in_threadpool(_answers, talk.process, place, form)
    except Busy as error:
        return _page(request, place, models, form, str(error), 503)
    except UserError as error:
        return _page(request, place, models, form, str(error), 400)
    told = [] if form.problem else form.told
    said = [*told, {name: found[name] for name in ("question", "problem", "answer", "said")}]
    after = Form(form.models, "", "", form.temperature, form.max_tokens, said, found["histories"])
    return _page(request, place, models, after)


def _answers(process: TalkProcess, place: Place, form: Form) -> dict[str, Any]:
    settings: dict[str, Any] = {"max_tokens": form.max_tokens}
    if form.temperature is not None:
        settings["temperature"] = form.temperature
    if not (form.question or form.problem):
        raise UserError("ask something, or name a problem of the run")
    return process.ask(
        place.uri,
        form.models,
        form.question,
        problem=form.problem or None,
        histories={name: turns for name, turns in form.histories.items() if name in form.models},
        settings=settings,
    )


def speakers(place: Place) -> list[str]:
    """The run's finished models that write text."""
    uri, config = run_of(place.uri)
    graph = graph_of(config)
    return [name for name in finished_models(uri, graph) if name not in graph.steps or not is_reward(graph[name])]


def form_of(fields: dict[str, list[str]]) -> Form:
    """Raises UserError for what no page of ours sends."""

    def one(name: str) -> str:
        return fields.get(name, [""])[0].strip()

    try:
        state = json.loads(one("state") or "{}")
        told, histories = list(state.get("told", [])), dict(state.get("histories", {}))
        temperature = float(one("temperature")) if one("temperature") else None
        limit = int(one("max_tokens") or 1024)
        return Form(fields.get("model", []), one("question"), one("problem"), temperature, limit, told, histories)
    except (ValueError, AttributeError, TypeError):
        raise UserError("temperature and tokens are numbers, and the rest is as the page has sent it") from None


async def _body(request: Request) -> bytes:
    read = bytearray()
    async for piece in request.stream():
        read += piece
        if len(read) > MOST_BYTES:
            raise UserError("the chat has become too long; begin a new one")
    return bytes(read)


def _page(
    request: Request, place: Place, models: list[str], form: Form, error: str = "", status: int = 200
) -> Response:
    state = json.dumps({"told": form.told, "histories": form.histories})
    values = {"place": place, "models": models, "form": form, "error": error, "state": state}
    return page("chat.html.j2", status, **values, key=request.app.state.talk.key)
