"""Finish reasons in the words of many servers: a part is never taken for the whole."""

from __future__ import annotations

from enum import Enum
from typing import Any

import pytest

from redi_ray.schemas import FINISH_REASONS
from redi_ray.text.finish import Ending, ending, finish_reason, is_partial


class FinishReason(Enum):
    MAX_TOKENS = 2


BY_MEANING: dict[Ending | None, list[Any]] = {
    Ending.STOP: [
        *("stop", "STOP", " Stop\n", "eos", "eos_token", "EOS_TOKEN", "stop_sequence", "end_turn", "endTurn", "COMPLETE"),
        *("FinishReason.STOP", "<FinishReason.STOP: 1>", "FINISH_REASON_STOP", "REASON_STOP", "eosFound", "word", b"stop"),
        *("FINISHED_STOPPED", "FINISH_EOS", "stopped_word", "stop: 2"),
        *({"type": "stop", "matched": 151645}, {"type": "stop", "length": None}, "{'type': 'stop', 'matched': 1}", ["stop"]),
    ],
    Ending.LENGTH: [
        *("length", "LENGTH", "max_tokens", "MAX_TOKENS", "max-tokens", "Max Tokens", "maxTokens", "model_length", "limit"),
        *("FinishReason.MAX_TOKENS", FinishReason.MAX_TOKENS, "model_context_window_exceeded", "ERROR_LIMIT"),
        *("FINISHED_LENGTH_CAPPED", "FINISH_LENGTH", "stopped_limit", "stop: length", "stopped:length", "stop_type: limit"),
        "token_limit_reached",
        *({"type": "length"}, {"type": "length", "length": 4096}, '{"type": "length", "length": 4096}', [{"type": "length"}]),
    ],
    Ending.LOOP: ["loop", "repetition"],
    Ending.BROKEN_OFF: [
        *("abort", "Aborted", "cancelled", "canceled", "error", "ERROR", "error: out of memory", "timeout", "overloaded"),
        *("insufficient_system_resource", "Insufficient System Resource", "FinishReason.ABORT", "network_error", "load"),
        *("FINISHED_ABORTED", "FINISH_ABORT", "finished_error", "stop: abort"),
        *("server_busy", "DEADLINE_EXCEEDED"),
        *({"type": "abort", "message": "Aborted", "status_code": 503}, "{'type': 'abort'}", "unfinished", "incomplete"),
    ],
    Ending.FILTERED: [
        *("content_filter", "CONTENT_FILTERED", "content_filter: SAFETY", "SAFETY", "RECITATION", "refusal", "sensitive"),
        "guardrail_intervened",
    ],
    Ending.UNKNOWN: [
        *("tool_calls", "function_call", "tool_use", "pause_turn", "OTHER", "FINISH_REASON_UNSPECIFIED", "unknown", "?"),
        *("a word of tomorrow", "stop or not", 1, True, {"kind": "stop"}, "FINISHED_IGNORED", ["stop", "length"], "nonstop"),
    ],
    None: [None, "", "  ", "null", "None", "nan", float("nan"), [], {}, {"type": None}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("meaning", "reason"), [(key, value) for key, values in BY_MEANING.items() for value in values]
)
def test_what_reasons_mean(meaning: Ending | None, reason: Any):
    assert ending(reason) == meaning
    stored = finish_reason(reason)
    assert stored in (*FINISH_REASONS, None)
    assert finish_reason(stored) == stored
    whole = (None, Ending.STOP, Ending.LENGTH, Ending.LOOP)
    assert is_partial(reason) == (meaning not in whole) == (stored == "unfinished")
