"""What goes over the wire to an OpenAI-compatible chat endpoint, and what comes back. Pure.

Left out on purpose: streaming, and several samples per request (a sample has its own seed and may fail alone).
"""

from __future__ import annotations

import email.utils
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import SecretStr

from redi_ray.config.endpoints import EndpointSettings
from redi_ray.data.sample.endpoint_message import BadShape, read_message
from redi_ray.text.finish import Ending, ending, finish_reason

DETAIL_LIMIT = 1000
"""Characters kept of what a server said."""
FINISH_NAMES = ("finish_reason", "finishReason", "done_reason")
MAX_COUNT = 2**40
"""Tokens; what is more was not counted."""
MAX_NESTING = 100


@dataclass(frozen=True)
class Parameters:
    """What is sent with every request of a stage, and the prefix that answers are made to begin with, if any."""

    temperature: float
    top_p: float
    max_tokens: int
    prefix: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the request's body."""


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool that came apart from the text."""

    id: str
    name: str
    arguments: str
    """JSON, as the model wrote it."""

    def as_sent(self) -> dict[str, Any]:
        """As the chat that goes on has it."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


@dataclass(frozen=True)
class Answer:
    """One completion as the server gave it."""

    text: str
    """Without the forced prefix."""
    reasoning: str
    """The reasoning, where the server keeps it apart from the answer; else empty."""
    finish_reason: str | None
    """One of `FINISH_REASONS`, or null where the server gives none."""
    prompt_tokens: int | None
    completion_tokens: int | None
    """Reasoning included. Null, like `prompt_tokens`, where the server does not count."""
    calls: tuple[ToolCall, ...] = ()
    """Calls of tools, where they were offered."""


@dataclass(frozen=True)
class Refusal:
    """A request that failed.

    reason: `http_400` and the like, `rate_limited`, `server_error`, `timeout`, `connection`, `bad_answer` (of no known
    shape), `broken_off` (by the server), `bad_text` (no Unicode), `content_filter` (declined, by a filter or the model) or
    `empty`.
    """

    reason: str
    detail: str
    """What the server said, in short; always text that can be stored and printed."""
    again: bool = field(default=False, compare=False)
    """Whether another try may go better."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "detail", printable(self.detail)[:DETAIL_LIMIT])


def printable(text: str) -> str:
    """`text` with halves of surrogate pairs spelt out, which no file and no terminal takes."""
    return text.encode("utf-8", "backslashreplace").decode()


def without_key(text: str, key: SecretStr | None) -> str:
    """What a server said, should it repeat the key."""
    secret = key.get_secret_value() if key else ""
    return text.replace(secret, "***") if secret else text


def headers(key: SecretStr | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}


def request_body(
    settings: EndpointSettings, messages: list[dict[str, Any]], parameters: Parameters, seed: int
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
    return {**body, **parameters.more, **settings.extra_body}


def read_body(content: bytes) -> Any | Refusal:
    """The JSON of a reply; a Refusal where it is none. One that ends too soon may come whole the next time, a page in another
    format will not."""
    try:
        body = json.loads(content)
        if _is_deep(body, MAX_NESTING):
            raise RecursionError(f"nested more than {MAX_NESTING} times")
        return body
    except UnicodeDecodeError as error:
        cut, reason, told = error.reason == "unexpected end of data", "bad_text", f"{error}, in "
    except json.JSONDecodeError as error:
        cut, reason, told = content.strip()[:1] in (b"", b"{", b"["), "bad_answer", f"{error}, in "
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets within brackets
        cut, reason, told = False, "bad_answer", f"{error}, in "
    return Refusal("bad_answer" if cut else reason, told + repr(as_text(content)[:DETAIL_LIMIT]), again=cut)


def _is_deep(body: Any, limit: int) -> bool:
    """So deep that Python cannot write it down again."""
    inner = body.values() if isinstance(body, dict) else body if isinstance(body, list) else ()
    return limit == 0 or any(_is_deep(value, limit - 1) for value in inner)


def read_answer(body: Any) -> Answer | Refusal:
    """The answer in a chat completion's JSON, or why it holds none."""
    try:
        choice = body["choices"][0]
        message = choice.get("message")
        if message is None:  # as completions are shaped, or the choice is an error and no more
            message = {"content": choice.get("text") if choice.get("error") else choice["text"]}
        said = read_message(message)
    except (KeyError, TypeError, IndexError, AttributeError, BadShape) as error:
        told = f"{error}, in " if isinstance(error, BadShape) else "no chat completion: "
        return Refusal("bad_answer", told + json.dumps(body)[:DETAIL_LIMIT])
    reason = next((choice[name] for name in FINISH_NAMES if ending(choice.get(name)) is not None), None)
    how = ending(reason)
    if how == Ending.FILTERED or (said.refusal and not said.text.strip()):
        return Refusal("content_filter", said.refusal or said.text or f"finish_reason {reason}")
    if how == Ending.BROKEN_OFF or choice.get("error"):  # some name no reason, or `stop`, beside the error
        told = f"finish_reason {reason}, {choice.get('error') or ''} after: {(said.reasoning + said.text)[-200:]}"
        return Refusal("broken_off", told, again=True)
    calls = read_calls(message)
    if not said.text.strip() and not said.reasoning.strip() and not calls:
        return Refusal("empty", f"finish_reason {reason}")
    try:
        text, reasoning = whole_pairs(said.text), whole_pairs(said.reasoning)
    except UnicodeDecodeError as error:
        return Refusal(
            "bad_text", f"half a surrogate pair in {(said.reasoning + said.text)[:DETAIL_LIMIT]!r} ({error.reason})"
        )
    prompt_tokens, completion_tokens = read_usage(body)
    return Answer(text, reasoning, finish_reason(reason), prompt_tokens, completion_tokens, calls)


def read_calls(message: Any) -> tuple[ToolCall, ...]:
    """What of a message's `tool_calls` is a call of a function; some servers give its arguments as an object."""
    listed, found = message.get("tool_calls") if isinstance(message, dict) else None, []
    for number, call in enumerate(listed if isinstance(listed, list) else []):
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            continue
        told = function.get("arguments", "")
        arguments = told if isinstance(told, str) else json.dumps(told)
        found.append(ToolCall(str(call.get("id") or f"call_{number}"), function["name"], printable(arguments)))
    return tuple(found)


def whole_pairs(text: str) -> str:
    """`text` with surrogate pairs joined, which lay in two chunks. Raises UnicodeDecodeError for half a pair."""
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")


def read_usage(body: Any) -> tuple[int | None, int | None]:
    """Tokens of the prompt and of the completion, each null where the server does not say."""
    usage = body.get("usage") if isinstance(body, dict) else None
    counts = usage if isinstance(usage, dict) else {}
    return _count(counts.get("prompt_tokens")), _count(counts.get("completion_tokens"))


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_COUNT else None


def as_text(content: bytes) -> str:
    """What a server said, whatever it says of its encoding."""
    return content.decode("utf-8", "replace")


def retry_after(value: str | None) -> float | None:
    """Seconds to wait by a Retry-After header, which holds seconds or a date; None where it holds neither."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def wait_asked(headers: Mapping[str, str]) -> float | None:
    """Seconds that a reply's headers ask to wait, None where they ask for nothing."""
    milliseconds = retry_after(headers.get("retry-after-ms"))
    found = [retry_after(headers.get("retry-after")), None if milliseconds is None else milliseconds / 1000]
    return max((seconds for seconds in found if seconds is not None), default=None)
