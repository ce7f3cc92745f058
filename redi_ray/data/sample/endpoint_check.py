"""One look at an endpoint before any work is started: is it there, does it take the key, is it a chat API at all?"""

from __future__ import annotations

import os
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr

from redi_ray.cluster.runtime import log
from redi_ray.config.endpoints import CHAT, EndpointSettings
from redi_ray.data.sample.endpoint_errors import (
    NOT_THERE,
    REFUSED_ACCESS,
    EndpointError,
    access_refused,
    not_there,
    read_error,
    redirected,
    told_to_all,
)
from redi_ray.data.sample.endpoint_wire import as_text, headers, printable, read_body, without_key

MODELS = "/models"
NO_CHAT = NOT_THERE | {501}
SECONDS = 30
"""Limit of one look."""
SECONDS_TO_GUESS = 5


def endpoint_key(field: str, settings: EndpointSettings) -> SecretStr | None:
    """The key from the environment, None where the endpoint wants none. Raises EndpointError if it is not set, or is no key."""
    if settings.api_key_env is None:
        return None
    value = os.environ.get(settings.api_key_env, "").strip()
    if not value:
        raise EndpointError(f"{field}.api_key_env names {settings.api_key_env}, which is not set; export the key there")
    if not (value.isascii() and value.isprintable()):
        raise EndpointError(
            f"{field}.api_key_env names {settings.api_key_env}, whose value holds a line break or other characters that no "
            "key has; export the key alone"
        )
    return SecretStr(value)


def check_endpoint(settings: EndpointSettings, key: SecretStr | None) -> None:
    """`GET <base_url>/models`, and where that is no list of models an empty chat, which costs no tokens.

    Raises EndpointError if nothing answers there, access is refused, or no chats are answered at this path; the message
    says where they are, if that is found. A server without a list of models is fine, and a name that is not on the list
    only warned about, since hosted services know aliases.
    """
    with httpx.Client(headers=headers(key), timeout=SECONDS, transport=httpx.HTTPTransport(retries=2)) as client:
        try:
            listed = client.get(f"{settings.base}{MODELS}")
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            told = without_key(f"{type(error).__name__}: {error}", key)
            raise EndpointError(f"{settings.base}{MODELS}: no answer ({told}); is the server up?") from error
        names = model_names(listed)
        wrong = None if names is not None else _access(settings, listed, MODELS) or _no_chat(settings, client)
    if wrong is not None:
        raise EndpointError(printable(without_key(wrong, key)))
    if names is not None and settings.model not in names:
        shown = printable(", ".join(names[:10]))
        log.warning("%s lists no model %r, only %s", settings.base_url, settings.model, shown)


def model_names(listed: httpx.Response) -> list[str] | None:
    """What a server lists; None where the reply is no list of models."""
    body = read_body(listed.content) if listed.is_success else None
    found = body.get("data") if isinstance(body, dict) else body
    if not isinstance(found, list) or not all(isinstance(model, dict) and "id" in model for model in found):
        return None
    return [str(model["id"]) for model in found]


def _access(settings: EndpointSettings, reply: httpx.Response, path: str) -> str | None:
    """What to tell of a reply that no other request would do better than."""
    if reply.is_redirect:
        return redirected(settings, f"{settings.base}{path}", reply.headers.get("location", ""))
    if reply.status_code in REFUSED_ACCESS:
        return access_refused(settings, reply.status_code, as_text(reply.content))
    return None


def _no_chat(settings: EndpointSettings, client: httpx.Client) -> str | None:
    """What to tell if no chats are answered at this path. A chat without messages is an error to any API that has them."""
    try:
        reply = client.post(f"{settings.base}{CHAT}", json={"model": settings.model, settings.max_tokens_name: 1})
    except httpx.HTTPError:
        return None  # it has answered once, so it is there
    if told := _access(settings, reply, CHAT):
        return told
    page = reply.status_code < 500 and as_text(reply.content[:1000]).lstrip().startswith("<")
    if reply.status_code not in NO_CHAT and not page:
        return None
    said = as_text(reply.content)
    error = read_error(reply.status_code, reply.content)
    if error.structured and (told := told_to_all(settings, error, "", said)):
        return told  # the path is right, `model` is not
    answered = "with a web page" if page else said[:200]
    return not_there(settings, f"{reply.status_code} {answered}", _known_base(settings, client))


def _known_base(settings: EndpointSettings, client: httpx.Client) -> str | None:
    """A base URL on the same server that has a list of models: the usual ones, and those above the one that was given."""
    parts = urlsplit(settings.base)
    origin, steps = f"{parts.scheme}://{parts.netloc}", parts.path.strip("/").split("/")
    above = [origin + "".join(f"/{step}" for step in steps[:length]) for length in range(len(steps) - 1, 0, -1)]
    for base in dict.fromkeys([f"{settings.base}/v1", *above, f"{origin}/v1", f"{origin}/api/v1"]):
        try:
            if model_names(client.get(f"{base}{MODELS}", timeout=SECONDS_TO_GUESS)):
                return base
        except httpx.HTTPError:
            continue
    return None
