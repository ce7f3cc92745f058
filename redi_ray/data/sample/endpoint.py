"""A client of OpenAI-compatible chat endpoints.

A request ends as an `Answer` or, where it failed for good, as a `Refusal` with its reason. What concerns every request (a
key that is not accepted, a server that is gone) is an `EndpointError`, which ends the run.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import replace
from typing import Any

import httpx
from pydantic import SecretStr
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_exponential

from redi_ray.config.endpoints import CHAT, EndpointSettings
from redi_ray.data.sample.endpoint_errors import EndpointError, error_in, read_error, refusal_of, told_to_all
from redi_ray.data.sample.endpoint_pace import Pace
from redi_ray.data.sample.endpoint_wire import (
    Answer,
    Parameters,
    Refusal,
    as_text,
    headers,
    printable,
    read_answer,
    read_body,
    read_usage,
    request_body,
    wait_asked,
    without_key,
)

SPENT_NOTHING = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
"""Failures of tries that never reached the server."""
MAY_HAVE_SPENT = frozenset({408, 499})
"""Client errors of a server that had begun; with the others it had not."""
OWN = frozenset({"content_filter", "bad_text"})
"""Refusals that say nothing about the requests to come: the server is well and understood the request."""


class _Transient(Exception):
    """A try that failed and is worth another one, after `wait` seconds if the server named them."""

    def __init__(self, refusal: Refusal, wait: float | None = None) -> None:
        super().__init__(refusal)
        self.refusal, self.wait = refusal, wait


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
        self._backoff = wait_exponential(multiplier=settings.backoff_seconds, max=settings.max_backoff_seconds)
        self._http = httpx.AsyncClient(
            headers=headers(key), timeout=None, limits=httpx.Limits(max_connections=settings.max_in_flight)
        )

    async def ask(self, messages: list[dict[str, Any]], parameters: Parameters, seed: int) -> Answer | Refusal:
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
        self._failures_in_row += outcome.reason not in OWN
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
        expected = self._expected_tokens(body)
        spent: float = expected  # unless the server says otherwise, or surely spent nothing
        await self._tokens.take(expected)
        await self._requests.take(1)
        try:
            async with asyncio.timeout(self.settings.timeout_seconds):
                response = await self._http.post(f"{self.settings.base}{CHAT}", json=body)
            if not response.is_success and response.status_code < 500 and response.status_code not in MAY_HAVE_SPENT:
                spent = 0
            outcome, used = self._read(response)
            if used is not None:
                spent, self._answered, self._used = used, self._answered + 1, self._used + used
        except TimeoutError as error:
            told = f"no answer within {self.settings.timeout_seconds:g} s"
            raise _Transient(Refusal("timeout", told, again=True)) from error
        except httpx.RequestError as error:
            spent = 0 if isinstance(error, SPENT_NOTHING) else expected
            told = self._clean(f"{type(error).__name__}: {error}")
            raise _Transient(Refusal("connection", told, again=True)) from error
        finally:
            self._tokens.count(spent - expected)
        if isinstance(outcome, Answer) or not outcome.again:
            return outcome
        wait = wait_asked(response.headers)
        if wait is not None and wait > self.settings.max_retry_after_seconds:
            return replace(outcome, detail=f"Retry-After {wait:g} s: {outcome.detail}", again=False)
        self._requests.hold(wait or 0.0)  # the others would hear the same
        raise _Transient(outcome, wait)

    def _expected_tokens(self, body: dict[str, Any]) -> float:
        """The mean of the answers so far; before the first, what the request may cost at the most."""
        if self._answered:
            return self._used / self._answered
        return sum(len(message["content"]) for message in body["messages"]) / 3 + body[self.settings.max_tokens_name]

    def _read(self, response: httpx.Response) -> tuple[Answer | Refusal, int | None]:
        """What a reply means, and the tokens that it says were used. Raises EndpointError."""
        status, body = response.status_code, None
        if response.is_success:
            body = read_body(response.content)
            if isinstance(body, Refusal):
                return replace(body, detail=self._clean(body.detail)), None
            error = error_in(body)
        else:
            error = read_error(status, response.content)
        if error is None:
            outcome = read_answer(body)
            counts = [count for count in read_usage(body) if count is not None]
            if isinstance(outcome, Refusal):
                outcome = replace(outcome, detail=self._clean(outcome.detail))
            return outcome, sum(counts) if counts else None
        said = self._clean(as_text(response.content))
        if told := told_to_all(self.settings, error, response.headers.get("location", ""), said):
            raise EndpointError(printable(self._clean(told)))
        return refusal_of(error, said), None

    def _clean(self, text: str) -> str:
        return without_key(text, self._key)

    def _wait(self, state: RetryCallState) -> float:
        """The back-off, drawn at random, so that requests that failed together do not come back together; longer if the server
        asks for it, never shorter."""
        backoff = self._backoff(state) * random.uniform(0.5, 1)
        return max(backoff, _failure(state).wait or 0.0)

    def _count_retry(self, state: RetryCallState) -> None:
        self.retries[_failure(state).refusal.reason] += 1


def _failure(state: RetryCallState) -> _Transient:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, _Transient), error
    return error
