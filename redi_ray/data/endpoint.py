"""A client of OpenAI-compatible chat endpoints.

A request ends as an `Answer` or, where it failed for good, as a `Refusal` with its reason. What concerns every request (a
key that is not accepted, a server that is gone) is an `EndpointError`, which ends the run.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
from pydantic import SecretStr
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from redi_ray.config.endpoints import EndpointSettings
from redi_ray.data.endpoint_wire import (
    DETAIL_LIMIT,
    Answer,
    Parameters,
    Refusal,
    headers,
    read_answer,
    request_body,
    retry_after,
)
from redi_ray.errors import UserError
from redi_ray.runtime import log

RETRIED = frozenset({408, 409, 429})
"""Client errors that may pass; of the server's all may."""
REFUSED_ACCESS = frozenset({401, 403})


class EndpointError(UserError):
    """An endpoint that cannot be used at all; the message says which, what it answered, and what to check."""


class _Transient(Exception):
    """A try that failed and is worth another one, after `retry_after` seconds if the server named them."""

    def __init__(self, reason: str, detail: str, retry_after: float | None = None) -> None:
        super().__init__(reason, detail)
        self.refusal, self.retry_after = Refusal(reason, detail), retry_after


class Pace:
    """At most `per_minute` units a minute, evenly spaced; as many as come if null."""

    def __init__(self, per_minute: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds_per_unit = 60 / per_minute if per_minute else 0.0
        self._clock, self._free_at, self._turn = clock, 0.0, asyncio.Lock()

    @property
    def wait(self) -> float:
        """Seconds until there is room."""
        return max(0.0, self._free_at - self._clock())

    async def take(self, units: float) -> None:
        """Wait until there is room, then use it. Those who wait are served in turn."""
        async with self._turn:
            while self.wait:
                await asyncio.sleep(min(self.wait, 0.5))  # corrections may bring the moment forward
            self.count(units)

    def count(self, units: float) -> None:
        """Use up so many units; negative ones are given back."""
        self._free_at = max(self._free_at, self._clock()) + units * self.seconds_per_unit

    def hold(self, seconds: float) -> None:
        """Let nobody through for so long."""
        self._free_at = max(self._free_at, self._clock() + seconds)


class ChatClient:
    """Asks one endpoint, with the limits and retries of its settings. All calls must be on one event loop."""

    def __init__(self, settings: EndpointSettings, key: SecretStr | None = None) -> None:
        self.settings = settings
        self.retries: Counter[str] = Counter()
        """Tries that were followed by another one, by the reason of their failure."""
        self._key = key
        self._ended: EndpointError | None = None
        self._failures_in_row = self._answered = self._used = 0
        self._requests, self._tokens = Pace(settings.requests_per_minute), Pace(settings.tokens_per_minute)
        self._slots = asyncio.Semaphore(settings.max_in_flight)
        self._backoff = wait_random_exponential(multiplier=settings.backoff_seconds, max=settings.max_backoff_seconds)
        self._http = httpx.AsyncClient(
            headers=headers(key), timeout=None, limits=httpx.Limits(max_connections=settings.max_in_flight)
        )

    async def ask(self, messages: list[dict[str, str]], parameters: Parameters, seed: int) -> Answer | Refusal:
        """One completion of a chat. Raises EndpointError where no request can succeed."""
        body = request_body(self.settings, messages, parameters, seed)
        tries = AsyncRetrying(
            retry=retry_if_exception_type(_Transient),
            stop=stop_after_attempt(self.settings.max_retries + 1),
            wait=self._wait,
            before_sleep=self._count_retry,
            reraise=True,
        )
        outcome: Answer | Refusal
        async with self._slots:
            if self._ended is not None:
                raise self._ended
            try:
                outcome = await tries(self._try, body)
            except _Transient as error:
                outcome = error.refusal
            except EndpointError as error:
                self._ended = error
                raise
            self._count_failures(outcome)
        return outcome

    def _count_failures(self, outcome: Answer | Refusal) -> None:
        if isinstance(outcome, Answer):
            self._failures_in_row = 0
            return
        self._failures_in_row += 1
        if self._ended is None and self._failures_in_row >= self.settings.max_failures_in_row:
            self._ended = EndpointError(
                f"{self.settings.base_url}: {self._failures_in_row} requests in a row failed for good, the last with "
                f"{outcome.reason}: {outcome.detail[:300]}. What was answered is kept; mend it and run the same again"
            )
        if self._ended is not None:
            raise self._ended

    async def close(self) -> None:
        await self._http.aclose()

    async def _try(self, body: dict[str, Any]) -> Answer | Refusal:
        """One try. Raises _Transient or EndpointError."""
        expected, used = self._expected_tokens(body), 0
        await self._tokens.take(expected)
        await self._requests.take(1)
        try:
            async with asyncio.timeout(self.settings.timeout_seconds):
                response = await self._http.post(f"{self.settings.base_url.rstrip('/')}/chat/completions", json=body)
            answer = self._read(response)
            if isinstance(answer, Answer):
                used = (answer.prompt_tokens or 0) + (answer.completion_tokens or 0)
                self._answered, self._used = self._answered + 1, self._used + used
            return answer
        except TimeoutError as error:
            raise _Transient("timeout", f"no answer within {self.settings.timeout_seconds:g} s") from error
        except httpx.RequestError as error:
            raise _Transient("connection", self._clean(f"{type(error).__name__}: {error}")) from error
        finally:
            self._tokens.count(used - expected)

    def _expected_tokens(self, body: dict[str, Any]) -> float:
        """The mean of the answers so far; before the first, what the request may cost at the most."""
        if self._answered:
            return self._used / self._answered
        return sum(len(message["content"]) for message in body["messages"]) / 3 + body[self.settings.max_tokens_name]

    def _read(self, response: httpx.Response) -> Answer | Refusal:
        status = response.status_code
        if status == httpx.codes.OK:
            try:
                return read_answer(response.json())
            except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
                told = f"{type(error).__name__} in {self._clean(response.text)!r}"
                raise _Transient("bad_answer", told) from error
        said = self._clean(response.text)
        if status in REFUSED_ACCESS:
            raise EndpointError(access_refused(self.settings, status, said))
        if status not in RETRIED and status < 500:
            return Refusal(f"http_{status}", said)
        reason = "rate_limited" if status == httpx.codes.TOO_MANY_REQUESTS else "server_error"
        asked = retry_after(response.headers.get("retry-after"))
        if asked is not None and asked > self.settings.max_retry_after_seconds:
            return Refusal(reason, f"{status}, Retry-After {asked:g} s: {said}")
        self._requests.hold(asked or 0.0)  # the others would hear the same
        raise _Transient(reason, f"{status}: {said}", asked)

    def _clean(self, text: str) -> str:
        """What a server said, in short, without the key should it repeat that."""
        secret = self._key.get_secret_value() if self._key else ""
        return (text.replace(secret, "***") if secret else text)[:DETAIL_LIMIT]

    def _wait(self, state: RetryCallState) -> float:
        asked = _failure(state).retry_after
        return self._backoff(state) if asked is None else asked

    def _count_retry(self, state: RetryCallState) -> None:
        self.retries[_failure(state).refusal.reason] += 1


def _failure(state: RetryCallState) -> _Transient:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, _Transient), error
    return error


def access_refused(settings: EndpointSettings, status: int, said: str) -> str:
    variable = settings.api_key_env
    hint = f"check the key in {variable}" if variable else "if it wants a key, name its variable in api_key_env"
    return f"{settings.base_url} refuses access ({status}); {hint}. It said: {said[:300]}"


def endpoint_key(field: str, settings: EndpointSettings) -> SecretStr | None:
    """The key from the environment, None where the endpoint wants none. Raises EndpointError if it is not set."""
    if settings.api_key_env is None:
        return None
    value = os.environ.get(settings.api_key_env, "").strip()
    if not value:
        raise EndpointError(f"{field}.api_key_env names {settings.api_key_env}, which is not set; export the key there")
    return SecretStr(value)


def check_endpoint(settings: EndpointSettings, key: SecretStr | None) -> None:
    """One look at `GET <base_url>/models` before any work is started.

    Raises EndpointError if nothing answers there or access is refused. A server without such a list is fine, and a name
    that is not on the list only warned about, since hosted services know aliases.
    """
    url = f"{settings.base_url.rstrip('/')}/models"
    try:
        with httpx.Client(headers=headers(key), timeout=30, transport=httpx.HTTPTransport(retries=2)) as client:
            response = client.get(url)
    except httpx.HTTPError as error:
        raise EndpointError(f"{url}: no answer ({type(error).__name__}: {error}); is the server up?") from error
    if response.status_code in REFUSED_ACCESS:
        said = response.text.replace(key.get_secret_value(), "***") if key else response.text
        raise EndpointError(access_refused(settings, response.status_code, said))
    try:
        names = [str(model["id"]) for model in response.json()["data"]]
    except (ValueError, KeyError, TypeError):
        return
    if settings.model not in names:
        log.warning("%s lists no model %r, only %s", settings.base_url, settings.model, ", ".join(names[:10]))
