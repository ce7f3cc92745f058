"""What a server's refusal means: for this request, for every request, or only for now. Pure.

Statuses alone do not say: services report errors inside a 200, a used-up quota as 429, and their content filter as 400.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

from redi_ray.config.endpoints import CHAT, EndpointSettings
from redi_ray.data.sample.endpoint_wire import Refusal, as_text, read_body
from redi_ray.errors import UserError
from redi_ray.text.finish import Ending, ending

RETRIED = frozenset({408, 409, 425, 429, 499})
"""Client errors that may pass; of the server's all may."""
REFUSED_ACCESS = frozenset({401, 403})
NO_CREDIT = ("insufficient_quota", "insufficient_balance", "billing_hard_limit_reached", "billing_not_active")
NOT_THERE = frozenset({404, 405})
NO_MODEL = ("model_not_found", "model_not_available", "deploymentnotfound", "deployment_not_found")
FILTER_WORDS = ("responsibleaipolicyviolation", "data_inspection_failed", "moderation_blocked")
"""Error codes of prompts that a filter refuses, beside those that are finish reasons as well."""


class EndpointError(UserError):
    """An endpoint that cannot be used at all; the message says which, what it answered, and what to check."""


@dataclass(frozen=True)
class ServerError:
    """An error as a server told it."""

    status: int
    """Of HTTP, or what stands for it in a reply of status 200; 200 where nothing does."""
    words: tuple[str, ...] = ()
    """Codes and types, in small letters."""
    structured: bool = False
    """Whether it came as an API's error, not as a page or the word of a web server."""
    said: str = ""

    @property
    def filtered(self) -> bool:
        """Whether the request's own content was refused."""
        known = any(word in FILTER_WORDS or ending(word) == Ending.FILTERED for word in self.words)
        return self.status < 500 and (known or (self.structured and "flagged_input" in self.said))


def read_error(status: int, content: bytes) -> ServerError:
    """The error in a reply of another status than success."""
    return error_in(read_body(content), status) or ServerError(status, said=as_text(content))


def error_in(body: Any, status: int = 200) -> ServerError | None:
    """The error that a JSON body tells of, in any of the usual shapes; None where it tells of none."""
    if not isinstance(body, dict):
        return None
    error = body.get("error") or (body if body.get("object") == "error" else None)
    if not error:
        return None
    told: dict[str, Any] = error if isinstance(error, dict) else {}
    found = told.get("innererror")
    inner: dict[str, Any] = found if isinstance(found, dict) else {}
    named = [
        told.get("code"),
        told.get("type"),
        inner.get("code"),
        body.get("code"),
        body.get("type"),
        told.get("status"),
    ]
    if status == 200:
        status = next((int(str(value)) for value in named if _is_status(value)), status)
    words = tuple(value.casefold() for value in named if isinstance(value, str))
    return ServerError(status, words, True, json.dumps(body, ensure_ascii=False))


def _is_status(value: Any) -> bool:
    return str(value).isascii() and str(value).isdigit() and 400 <= int(str(value)[:4]) < 600


def told_to_all(settings: EndpointSettings, error: ServerError, location: str, said: str) -> str | None:
    """What to tell the user of an answer to a chat that every other chat would get as well; None where others may fare
    better. location: the header of that name. said: what the server said, fit to be shown."""
    if 300 <= error.status < 400:
        return redirected(settings, f"{settings.base}{CHAT}", location)
    if error.status in REFUSED_ACCESS and not error.filtered:
        return access_refused(settings, error.status, said)
    if error.status == 402 or any(word in NO_CREDIT for word in error.words):
        told = f"no credit is left there ({error.status}); top it up and run the same again"
        return f"{settings.base_url}: {told}. It said: {said[:300]}"
    if error.status in NOT_THERE and _is_about_model(settings, error):
        told = f"has no model {settings.model!r} ({error.status}); mend `model`"
        return f"{settings.base_url} {told}. It said: {said[:300]}"
    if error.status in NOT_THERE and not error.structured:
        return not_there(settings, f"{error.status}: {said[:200]}")
    return None


def _is_about_model(settings: EndpointSettings, error: ServerError) -> bool:
    if any(word in NO_MODEL for word in error.words):
        return True
    name = re.escape(json.dumps(settings.model, ensure_ascii=False)[1:-1])
    named = rf"""["'`]{name}\\*["'`]|endpoints found for {name}"""
    return error.structured and re.search(named, error.said) is not None


def refusal_of(error: ServerError, said: str) -> Refusal:
    """What an error means for the request alone. said: as above."""
    if error.filtered:
        return Refusal("content_filter", f"{error.status}: {said}")
    if error.status == 200:
        broken = any(ending(word) == Ending.BROKEN_OFF for word in error.words)
        invalid = any("invalid" in word for word in error.words)
        return Refusal("server_error" if broken else "bad_answer", said, again=not invalid)
    if error.status not in RETRIED and error.status < 500:
        return Refusal(f"http_{error.status}", said)
    return Refusal("rate_limited" if error.status == 429 else "server_error", f"{error.status}: {said}", again=True)


def access_refused(settings: EndpointSettings, status: int, said: str) -> str:
    variable = settings.api_key_env
    hint = f"check the key in {variable}" if variable else "if it wants a key, name its variable in api_key_env"
    return f"{settings.base_url} refuses access ({status}); {hint}. It said: {said[:300]}"


def redirected(settings: EndpointSettings, url: str, location: str) -> str:
    """Redirects are not followed: the key would go to whoever is named."""
    try:
        target = urljoin(url, location) if location else "nowhere"
    except ValueError:
        target = location
    target = target.partition("?")[0][:300]  # a query may hold somebody's session
    base = target.rstrip("/").removesuffix(url.removeprefix(settings.base))
    found = base not in (target.rstrip("/"), settings.base)
    advice = f"write base_url: {base}" if found else "write as base_url where the API itself is"
    return f"{url} redirects to {target}; {advice} (redirects are not followed: the key would go there)"


def not_there(settings: EndpointSettings, answered: str, known: str | None = None) -> str:
    """known: a base URL that would do."""
    hint = f"write base_url: {known}" if known else "check its path, which mostly ends with the version, such as /v1"
    return f"{settings.base_url} is no place of a chat API: {settings.base}{CHAT} answers {answered}; {hint}"
