"""Settings of an OpenAI-compatible chat endpoint, standard library only like the rest of the core's settings."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from redi_ray.config.secrets import holds_a_key
from redi_ray.config.strict import STRICT, require

_ENVIRONMENT_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")
CHAT = "/chat/completions"
"""Below `base_url`, where chats are posted."""
_SENT_BY_US = frozenset({"model", "messages", "stream", "n", "max_tokens", "max_completion_tokens"})


@dataclass(frozen=True, kw_only=True)
class EndpointSettings:
    """A server with `POST <base_url>/chat/completions`: vLLM, SGLang, or a hosted API."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    base_url: str
    """Up to and with the version, such as `http://teacher:8000/v1`; what stands before `/chat/completions`. No part of the
    stage's key: a server that moves keeps its traces, so `model` must name the model."""
    model: str
    """The model's name on that server."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key, never the key itself. Null: the server wants none."""
    max_in_flight: int = 64
    """Requests open at a time."""
    requests_per_minute: float | None = None
    """Ceiling on requests, retries included, evenly spaced. Null: none."""
    tokens_per_minute: float | None = None
    """Ceiling on prompt and completion tokens. An answer's tokens are known only when it is there, so a request first
    counts with the mean of those before it; so does a try that failed, unless the server surely spent nothing on it."""
    max_retries: int = 8
    """Tries after the first on 408, 409, 425, 429, 499, 5xx, time-outs, broken connections, answers that the server broke
    off (`abort`, `error`, `insufficient_system_resource`, ...) and JSON that ends too soon."""
    backoff_seconds: float = 1.0
    """Longest wait before the first retry, doubled with each; the wait is drawn at random between half of it and all of it.
    Where the server's Retry-After is longer, that is waited for, and by the other requests too."""
    max_backoff_seconds: float = 60.0
    """Where the doubling ends."""
    max_retry_after_seconds: float = 600.0
    """A longer Retry-After counts as a failure."""
    timeout_seconds: float = 1800.0
    """Limit of one try. A completion arrives all at once, at its end, and may have waited in the server's queue."""
    max_failures_in_row: int = 50
    """The run stops after so many requests in a row that failed for good: the server is down, or the request is wrong.
    What a content filter refuses, and an answer that is no Unicode, are a request's own and do not count. What is done by then
    stays."""
    prompt_price: float | None = None
    """Per million prompt tokens, in whatever currency; with `completion_price` it puts `cost` into the manifest."""
    completion_price: float | None = None
    """Per million completion tokens."""
    omit: list[Literal["temperature", "top_p", "seed"]] = field(default_factory=list)
    """Parameters that this server refuses. Without seeds its samples cannot be repeated."""
    max_tokens_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the server calls the limit of a completion."""
    extra_body: dict[str, Any] = field(default_factory=dict)
    """Anything else for the request's body, passed on as it is (`top_k`, `chat_template_kwargs`, ...)."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        require(
            parts.scheme in ("http", "https") and bool(parts.hostname),
            "base_url must be http://HOST... or https://HOST..., with its version, such as http://teacher:8000/v1",
        )
        require(
            not (parts.username or parts.password or parts.query or parts.fragment),
            "base_url must hold no user, password or query: the key's variable goes into api_key_env",
        )
        require(parts.port != 0, "base_url has port 0")  # and a port that is none raises ValueError
        wrong = re.fullmatch(r"(.*?)(?:/chat)?/completions/*", self.base_url)
        require(
            wrong is None,
            f"base_url must end before {CHAT}, which is added to it; write base_url: {wrong and wrong[1]}",
        )
        require(bool(self.model.strip()), "model is empty; name the model as the server does (GET <base_url>/models)")
        require(
            self.api_key_env is None or _ENVIRONMENT_NAME.fullmatch(self.api_key_env) is not None,
            "api_key_env must be the name of an environment variable in capitals, such as TEACHER_API_KEY, not a key",
        )
        for name in ("api_key_env", "base_url", "model", "extra_body"):
            require(
                not holds_a_key(getattr(self, name)),
                f"{name} holds what looks like a key; put it into an environment variable and name that in api_key_env",
            )
        for name in ("max_in_flight", "max_failures_in_row"):
            require(getattr(self, name) >= 1, f"{name} must be >= 1, got {getattr(self, name)}")
        require(self.max_retries >= 0, f"max_retries must be >= 0, got {self.max_retries}")
        for name in ("requests_per_minute", "tokens_per_minute", "timeout_seconds", "max_retry_after_seconds"):
            value = getattr(self, name)
            require(value is None or value > 0, f"{name} must be > 0, got {value}")
        require(
            0 < self.backoff_seconds <= self.max_backoff_seconds,
            f"0 < backoff_seconds <= max_backoff_seconds must hold, got {self.backoff_seconds} and {self.max_backoff_seconds}",
        )
        prices = (self.prompt_price, self.completion_price)
        require((None in prices) == (prices == (None, None)), "give both prompt_price and completion_price, or neither")
        require(all(price is None or price >= 0 for price in prices), f"prices must be >= 0, got {prices}")
        taken = sorted(_SENT_BY_US & self.extra_body.keys())
        require(not taken, f"extra_body must not hold {', '.join(taken)}: the request has its own")
        for name in ("base_url", "model", "extra_body"):
            require(
                _is_json(getattr(self, name)), f"{name} must be what JSON in UTF-8 can hold: no dates, NaN, surrogates"
            )

    @property
    def base(self) -> str:
        """`base_url` without slashes at its end."""
        return self.base_url.rstrip("/")

    @property
    def has_prices(self) -> bool:
        return self.prompt_price is not None

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """What so many tokens cost, in the currency of the prices."""
        assert self.prompt_price is not None
        assert self.completion_price is not None
        return round((prompt_tokens * self.prompt_price + completion_tokens * self.completion_price) / 1e6, 6)

    def identity(self) -> dict[str, Any]:
        """What decides the answers, for a stage's key: where the server is and how fast it is asked do not."""
        return {"model": self.model, "omit": sorted(self.omit), "extra_body": self.extra_body}


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError):
        return False
    return True
