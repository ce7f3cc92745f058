"""Who may ask, and what a browser may do with the answer.

The pages show what models and strangers' data wrote. So everything is escaped, no script runs but our own files, nothing is
loaded from elsewhere, and no other page's script can ask for ours: on loopback the Host header must name this machine (a
name that an attacker points to 127.0.0.1 does not), elsewhere a token is asked for.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS = ("GET", "HEAD")
ASKING = re.compile(r"/run/[^/]+/chat")
"""The one kind of page that takes a POST: it asks a model, and changes nothing."""
COOKIE, PARAMETER = "redi_ray_token", "token"
LOOPBACK = ("localhost", "127.0.0.1", "::1")

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",  # the colours of tokens, and the chart library's own
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """ASGI middleware: only reads, only from whoever may, every answer with the headers above."""

    def __init__(self, app: ASGIApp, token: str | None = None, hosts: Iterable[str] = LOOPBACK) -> None:
        """token: asked for where there is one. hosts: names that requests may call this server by; empty lets all through,
        which takes a token."""
        self.app, self.token, self.hosts = app, token, frozenset(hosts)
        if not token and not self.hosts:
            raise ValueError("a server that is reached by any name needs a token")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refusal(scope)
        await (self.app if refusal is None else refusal)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        """What to answer instead; None lets the request through."""
        headers = Headers(scope=scope)
        if (refusal := refused_method(scope, headers)) is not None:
            return refusal
        if self.hosts and host_of(headers.get("host", "")) not in self.hosts:
            return PlainTextResponse(f"not known by this name; ask for {' or '.join(sorted(self.hosts))}\n", 421)
        if self.token is None:
            return None
        asked = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if given := next((value for name, value in asked if name == PARAMETER), None):
            return self._let_in(scope, given, [pair for pair in asked if pair[0] != PARAMETER])
        bearer = headers.get("authorization", "").partition(" ")
        if bearer[0].lower() == "bearer" and self._fits(bearer[2].strip()):
            return None
        return None if self._fits(cookie_of(headers.get("cookie", ""))) else denied()

    def _let_in(self, scope: Scope, given: str, rest: list[tuple[str, str]]) -> Response:
        """The token moves from the address, which is logged and shown, into a cookie."""
        if not self._fits(given):
            return denied()
        path = "/" + scope["path"].lstrip("/\\")  # `//host` would lead elsewhere
        answer = RedirectResponse(f"{path}?{urlencode(rest)}" if rest else path, 303)
        answer.set_cookie(COOKIE, given, httponly=True, samesite="strict", secure=scope["scheme"] == "https")
        return answer

    def _fits(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), (self.token or "").encode())


def refused_method(scope: Scope, headers: Headers) -> Response | None:
    """What to answer a request that does more than read, unless one of our own pages asks a model."""
    if scope["method"] in METHODS:
        return None
    if scope["method"] != "POST" or not ASKING.fullmatch(scope["path"]):
        return PlainTextResponse("read-only\n", 405, {"Allow": ", ".join(METHODS)})
    return None if is_own_page(headers) else PlainTextResponse("only a page of this server may ask\n", 403)


def is_own_page(headers: Headers) -> bool:
    """Whether a browser says that one of our own pages asks, or no browser asks at all."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if origin is not None:
        return urlsplit(origin).netloc == headers.get("host", "") and site in (None, "same-origin")
    return site in (None, "same-origin")


def host_of(header: str) -> str:
    """The name in a Host header, without its port."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0].lower()


def cookie_of(header: str) -> str:
    """The token that a Cookie header holds, "" for none."""
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


def denied() -> Response:
    return PlainTextResponse(
        "a token is needed: open the address that `redi-ray ui` has printed, or send `Authorization: Bearer TOKEN`\n",
        401,
        {"WWW-Authenticate": "Bearer"},
    )
