"""Why a completion ended, as servers and data sets say it: the one table of their words.

Each engine and service has words of its own, as plain text, in capitals, as `FinishReason.STOP` or as an object such as
`{"type": "length", "length": 4096}`. A word that is not in the table says that the completion is not finished: to take a
part for the whole would call it wrong for what it never came to say.
"""

from __future__ import annotations

import math
import re
from enum import Enum, StrEnum
from typing import Any

from redi_ray.schemas import UNFINISHED


class Ending(StrEnum):
    """What a finish reason means."""

    STOP = "stop"
    """By itself."""
    LENGTH = "length"
    """At its token limit, or the model's."""
    LOOP = "loop"
    """Stopped for repeating itself."""
    BROKEN_OFF = "broken_off"
    """By the server, for reasons that may pass: it failed, was busy, or was told to stop."""
    FILTERED = "filtered"
    """By a filter of its content, or the model declined."""
    UNKNOWN = "unknown"
    """For a reason that says nothing here: a call of a tool, or a word that is not in the table."""


WORDS: dict[Ending, str] = {
    Ending.STOP: (
        "stop stopped eos eos_token eos_found end end_id end_turn end_of_turn end_of_text end_of_sequence end_of_message "
        "stop_sequence stop_sequences stop_sequence_found stop_token stop_string stop_string_found stop_word stop_words "
        "stop_criteria_met word complete completed finish finished done success succeeded normal natural"
    ),
    Ending.LENGTH: (
        "length limit max_tokens max_token max_new_tokens max_output_tokens max_completion_tokens max_length max_len "
        "max_output max_tokens_reached max_predicted_tokens_reached max_context max_context_length max_model_len "
        "model_length context_length context_length_reached context_length_exceeded context_window_exceeded "
        "model_context_window_exceeded length_limit length_capped token_limit output_limit error_limit cutoff cut_off "
        "truncated max_total_tokens max_seq_len max_tokens_exceeded token_limit_reached"
    ),
    Ending.LOOP: "loop looping loop_detected repetition repetitive repetition_detected repeat repeated",
    Ending.BROKEN_OFF: (
        "abort aborted abortion request_aborted user_abort cancel canceled cancelled cancellation user_cancel "
        "user_cancelled user_stopped error errored failed failure exception server_error internal internal_error "
        "internal_server_error api_error engine_error network_error connection_error upstream_error model_error "
        "provider_error service_error service_unavailable unavailable bad_gateway overloaded overloaded_error "
        "insufficient_system_resource insufficient_system_resources insufficient_resources resource_exhausted "
        "rate_limit rate_limited rate_limit_error rate_limit_exceeded too_many_requests capacity timeout timed_out "
        "time_out time_limit timeout_error request_timeout gateway_timeout disconnect disconnected interrupt interrupted "
        "preempt preempted evicted killed crashed shutdown unload model_unloaded load oom out_of_memory "
        "server_busy server_overloaded engine_overloaded system_error deadline_exceeded request_cancelled client_disconnected "
        "not_finished unfinished incomplete in_progress partial queued pending running"
    ),
    Ending.FILTERED: (
        "content_filter content_filtered content_filter_error content_policy_violation filtered filter refusal refused "
        "safety unsafe sensitive recitation blocklist blocked prohibited_content spii image_safety model_armor moderation "
        "moderated flagged guardrail guardrails guardrail_intervened error_toxic responsible_ai_policy_violation"
    ),
}
"""Words of OpenAI, Azure, vLLM, SGLang, TGI, TensorRT-LLM, llama.cpp, Ollama, LM Studio, Anthropic, Gemini, Bedrock, Cohere,
Mistral, DeepSeek and others; letters' case and what joins the words do not matter."""
NO_REASON = ("null", "none", "nan", "na", "nil", "undefined")
"""How a missing reason is written, if not left empty; it says nothing either way."""
KEYS = ("type", "reason", "finish_reason", "finishReason", "stop_reason", "done_reason", "name", "value")
"""Where an object has its word."""
_FIRST_WORD = re.compile(rf"""["'](?:{"|".join(KEYS)})["']\s*:\s*["']([^"']*)["']""")
_LABEL = re.compile(r"^(?:finish|stop|done|completion)?reason|^stoptype|^finish(?:ed)?(?=.)|^stopped(?=.)")
_LETTERS = re.compile(r"[\W_]+")
_TABLE = {word.replace("_", ""): ending for ending, words in WORDS.items() for word in words.split()}
_STORED = {ending: ending.value for ending in (Ending.STOP, Ending.LENGTH, Ending.LOOP)}


def ending(reason: Any) -> Ending | None:
    """What a finish reason of any form means; None where there is none.

    Example: `ending({"type": "abort"}) == Ending.BROKEN_OFF`.
    """
    if isinstance(reason, Enum):
        reason = reason.name
    if isinstance(reason, dict):
        told = {key: value for key, value in reason.items() if value is not None}
        named = [told[key] for key in KEYS if key in told]
        return ending(named[0]) if named else Ending.UNKNOWN if told else None
    if isinstance(reason, list | tuple):
        return ending(reason[0]) if len(reason) == 1 else Ending.UNKNOWN if reason else None
    if reason is None or (isinstance(reason, float) and math.isnan(reason)):
        return None
    if isinstance(reason, bytes):
        reason = reason.decode(errors="replace")
    if not isinstance(reason, str):
        return Ending.UNKNOWN
    return _of_text(reason)


def _of_text(text: str) -> Ending | None:
    if written := _FIRST_WORD.search(text):  # an object that went through text
        text = written[1]
    text = text.strip().strip("<>\"'`")
    if not text or _bare(text) in NO_REASON:
        return None
    found = []
    for part in (text, *text.split(":")):  # `content_filter: SAFETY`, `<FinishReason.STOP: 1>`
        for word in (part, part.rstrip(". ").rpartition(".")[2]):
            bare = _bare(word)
            found += [_TABLE[form] for form in (bare, _LABEL.sub("", bare)) if form in _TABLE]
    # `stop: length` only has the label's word before its own
    return next((meaning for meaning in found if meaning != Ending.STOP), found[0] if found else Ending.UNKNOWN)


def _bare(text: str) -> str:
    return _LETTERS.sub("", text).casefold()


def finish_reason(reason: Any) -> str | None:
    """What a TRACE row says (one of `FINISH_REASONS`) for a finish reason of any form; null where there is none.

    Example: `finish_reason("MAX_TOKENS") == "length"`, `finish_reason("abort") == finish_reason("?") == "unfinished"`.
    """
    found = ending(reason)
    return None if found is None else _STORED.get(found, UNFINISHED)


def is_partial(reason: Any) -> bool:
    """Whether a completion was broken off, or ended for a reason that nobody knows: what it says is no answer to hold against
    it. One that reached its token limit had its chance."""
    return finish_reason(reason) == UNFINISHED
