"""What goes over the wire to an OpenAI-compatible chat endpoint, and what comes back. Pure.

Left out on purpose: streaming, tools, and several samples per request (a sample has its own seed and may fail alone).
"""

from __future__ import annotations

import email.utils
import math
import time
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from redi_ray.config.endpoints import EndpointSettings

DETAIL_LIMIT = 1000
"""Characters kept of what a server said."""


@dataclass(frozen=True)
class Parameters:
    """What is sent with every request of a stage, and the prefix that answers are made to begin with, if any."""

    temperature: float
    top_p: float
    max_tokens: int
    prefix: str = ""


@dataclass(frozen=True)
class Answer:
    """One completion as the server gave it."""

    text: str
    """Without the forced prefix."""
    reasoning: str
    """The reasoning, where the server keeps it apart from the answer; else empty."""
    finish_reason: str | None
    """stop, length, or null where the server says neither."""
    prompt_tokens: int | None
    completion_tokens: int | None
    """Reasoning included. Null, like `prompt_tokens`, where the server does not count."""


@dataclass(frozen=True)
class Refusal:
    """A request that failed for good.

    reason: `http_400` and the like, `rate_limited`, `server_error`, `timeout`, `connection`, `bad_answer`, `content_filter`
    or `empty`.
    """

    reason: str
    detail: str


def headers(key: SecretStr | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}


def request_body(
    settings: EndpointSettings, messages: list[dict[str, str]], parameters: Parameters, seed: int
) -> dict[str, Any]:
    """The JSON of one request."""
    sampling = {"temperature": parameters.temperature, "top_p": parameters.top_p, "seed": seed}
    body: dict[str, Any] = {
        "model": settings.model,
        "messages": messages,
        settings.max_tokens_name: parameters.max_tokens,
        **{name: value for name, value in sampling.items() if name not in settings.omit},
    }
    if parameters.prefix:
        body["messages"] = [*messages, {"role": "assistant", "content": parameters.prefix}]
        body.update(add_generation_prompt=False, continue_final_message=True)
    return {**body, **settings.extra_body}


def read_answer(body: Any) -> Answer | Refusal:
    """The answer in a chat completion's JSON. Raises KeyError, TypeError and their like where that has another shape."""
    choice = body["choices"][0]
    message, finish = choice["message"], choice.get("finish_reason")
    text = message.get("content") or ""
    reasoning = message.get("reasoning_content") or message.get("reasoning") or ""  # vLLM has had both names
    if not isinstance(text, str) or not isinstance(reasoning, str):
        raise TypeError("content is no text")
    if finish == "content_filter":
        return Refusal("content_filter", text[:DETAIL_LIMIT])
    if not text.strip() and not reasoning.strip():
        return Refusal("empty", f"finish_reason {finish}")
    usage = body.get("usage") or {}
    return Answer(
        text=text,
        reasoning=reasoning,
        finish_reason=finish if finish in ("stop", "length") else None,
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
    )


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def retry_after(value: str | None) -> float | None:
    """Seconds to wait by a Retry-After header, which holds seconds or a date; None where it holds neither."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
