"""Replies as servers shape them: text and reasoning are found wherever they stand, each once, and nothing is guessed at."""

from __future__ import annotations

from typing import Any

import pytest
from chat_server import Reply, completion

from redi_ray.config.prompts import PromptSettings
from redi_ray.data.sample.endpoint_message import BadShape, Said, read_message
from redi_ray.data.sample.endpoint_sampling import to_completion
from redi_ray.data.sample.endpoint_wire import Answer, Refusal, read_answer, read_body
from redi_ray.data.sample.samples import Sampling

SAMPLING = Sampling(temperature=0.6, top_p=0.95, max_tokens=50, seed=42)
TEXT = {"type": "text", "text": "so 4"}
THOUGHT = {"type": "thinking", "thinking": [{"type": "text", "text": "two "}, {"type": "text", "text": "and two"}]}
WHOLE = Said("so 4", "two and two")


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"content": "so 4"}, Said("so 4")),
        ({"content": None}, Said()),
        ({"content": []}, Said()),
        ({"content": ["so ", "4"]}, Said("so 4")),
        ({"content": [{"type": "text", "text": "so "}, {"type": "output_text", "text": "4"}]}, Said("so 4")),
        ({"content": [{"type": "text", "text": {"value": "so 4"}}]}, Said("so 4")),
        ({"content": {"type": "text", "text": "so 4"}}, Said("so 4")),
        ({"content": [THOUGHT, TEXT]}, WHOLE),
        ({"content": [{"type": "thinking", "thinking": "two and two", "signature": "x"}, TEXT]}, WHOLE),
        ({"content": [{"type": "reasoning", "text": "two and two"}, TEXT]}, WHOLE),
        ({"content": [{"text": "two and two", "thought": True}, {"text": "so 4"}]}, WHOLE),
        ({"content": [{"type": "redacted_thinking", "data": "x"}, TEXT, {"type": "reference"}]}, Said("so 4")),
        ({"content": "so 4", "reasoning_content": "two and two"}, WHOLE),
        ({"content": "so 4", "reasoning": "two and two"}, WHOLE),
        ({"content": "so 4", "thinking": "two and two"}, WHOLE),
        ({"content": "so 4", "reasoning": {"content": "two and two"}}, WHOLE),
        ({"content": "so 4", "reasoning": {"text": "two and two"}}, WHOLE),
        ({"content": "so 4", "reasoning": {"effort": "high", "summary": None}}, Said("so 4")),
        ({"content": "so 4", "reasoning": {"summary": [{"type": "summary_text", "text": "two and two"}]}}, WHOLE),
        ({"content": "so 4", "reasoning_details": [{"type": "reasoning.text", "text": "two and two"}]}, WHOLE),
        ({"content": "so 4", "reasoning_details": [{"type": "reasoning.summary", "summary": "two and two"}]}, WHOLE),
        ({"content": "so 4", "reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]}, Said("so 4")),
        ({"content": "so 4", "thinking_blocks": [{"type": "thinking", "thinking": "two and two"}]}, WHOLE),
        # the same under two names, in full or as a summary, is said once
        ({"content": "so 4", "reasoning_content": "two and two", "reasoning": "two and two\n"}, WHOLE),
        ({"content": [THOUGHT, TEXT], "reasoning_content": "two and two"}, WHOLE),
        (
            {
                "content": "so 4",
                "reasoning": "two and two",
                "reasoning_details": [
                    {"type": "reasoning.summary", "summary": "an addition"},
                    {"type": "reasoning.text", "text": "two and two"},
                ],
            },
            WHOLE,
        ),
        ({"content": None, "refusal": "I can't help with that."}, Said(refusal="I can't help with that.")),
        ({"content": [{"type": "refusal", "refusal": "No."}]}, Said(refusal="No.")),
    ],
)
def test_messages_of_many_servers(message: dict[str, Any], said: Said):
    assert read_message(message) == said


@pytest.mark.parametrize(
    "message",
    [
        "four", 4, {"content": 5}, {"content": True}, {"content": {}}, {"content": {"a": 1}}, {"content": [7]},
        {"content": [{"type": "image_url", "image_url": {"url": "x"}}]}, {"content": [{"type": ["text"]}]},
        {"content": "x", "reasoning": 5}, {"content": "x", "reasoning": {"tokens": "many"}},
        {"content": [[[[[[[[["x"]]]]]]]]]},
    ],
)  # fmt: skip
def test_other_shapes_are_refused(message: Any):
    with pytest.raises(BadShape):
        read_message(message)


HALF = "\ud835"


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (completion(f"x {HALF}"), "bad_text"),
        (completion([f"x {HALF}", "y"]), "bad_text"),
        (completion("x", reasoning_content=f"{HALF} y"), "bad_text"),
        (completion([f"x {HALF}", "\udfd9"]), Answer("x \U0001d7d9", "", "stop", 11, 7)),
        (completion("a\x00b\ufffe\u2028"), Answer("a\x00b\ufffe\u2028", "", "stop", 11, 7)),
        (completion("", HALF), "empty"),
        (completion(HALF, "content_filter"), "content_filter"),
        (completion("half of it", HALF), Answer("half of it", "", "unfinished", 11, 7)),
        (completion("x", "tool_calls"), Answer("x", "", "unfinished", 11, 7)),
        (completion("x", {"type": "length", "length": 50}), Answer("x", "", "length", 11, 7)),
        (completion("x", "MAX_TOKENS"), Answer("x", "", "length", 11, 7)),
        (completion("x", None), Answer("x", "", None, 11, 7)),
        (completion("half of it", "abort"), "broken_off"),
        (completion("half of it", "insufficient_system_resource"), "broken_off"),
        (completion(None, "error"), "broken_off"),
        (completion("x", "SAFETY"), "content_filter"),
        (completion(None, refusal="No."), "content_filter"),
        (completion("x", usage={"prompt_tokens": 10**30, "completion_tokens": 7}), Answer("x", "", "stop", None, 7)),
        (completion("x", usage=[1]), Answer("x", "", "stop", None, None)),
        (Reply(200, {"choices": [{"text": "x", "finish_reason": "length"}]}), Answer("x", "", "length", None, None)),
        (
            Reply(200, {"choices": [{"text": "x", "finish_reason": "", "finishReason": "MAX_TOKENS"}]}),
            Answer("x", "", "length", None, None),
        ),
        (Reply(200, {"choices": [{"error": {"code": 502}}]}), "broken_off"),
        (Reply(200, {"choices": [{"text": "hal", "error": {"code": 502}}]}), "broken_off"),
        (Reply(200, {"choices": [{"text": "hal", "finish_reason": "stop", "error": {"code": 502}}]}), "broken_off"),
        (
            Reply(200, {"choices": [{"text": "x", "finish_reason": "stop", "error": None}]}),
            Answer("x", "", "stop", None, None),
        ),
        (
            Reply(200, {"choices": [{"message": {"content": "x", "reasoning": {}, "thinking": False}}]}),
            Answer("x", "", None, None, None),
        ),
        (Reply(200, {"choices": []}), "bad_answer"),
        (Reply(200, {"choices": None}), "bad_answer"),
        (Reply(200, {"choices": ["x"]}), "bad_answer"),
        (Reply(200, {"choices": [{"message": None}]}), "bad_answer"),
        (Reply(200, {"output": f"x {HALF}"}), "bad_answer"),
        (Reply(200, [1, 2]), "bad_answer"),
        (Reply(200, "four"), "bad_answer"),
        (Reply(200, None), "bad_answer"),
    ],
)
def test_answers_and_refusals(reply: Reply, expected: Answer | str):
    outcome = read_answer(reply.body)
    if isinstance(expected, Answer):
        assert outcome == expected
    else:
        assert isinstance(outcome, Refusal)
        assert outcome.reason == expected
        assert outcome.again == (expected == "broken_off")
        outcome.detail.encode()


@pytest.mark.parametrize(
    ("content", "reason", "again"),
    [
        (b"", "bad_answer", True),
        (b'{"choices": [{"mess', "bad_answer", True),
        ('{"choices": "\u00e9'.encode()[:-1], "bad_answer", True),
        (b"<html>Welcome</html>", "bad_answer", False),
        (b'data: {"choices": []}\n\n', "bad_answer", False),
        (b'{"choices": "\xff\xfe"}', "bad_text", False),
        (b'{"n": ' + b"1" * 5000 + b"}", "bad_answer", False),
        (b"[" * 100_000, "bad_answer", False),
        (b"[" * 500 + b"]" * 500, "bad_answer", False),
    ],
)
def test_bodies_that_cannot_be_read(content: bytes, reason: str, again: bool):
    refusal = read_body(content)
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.again) == (reason, again)


@pytest.mark.parametrize(
    "reasoning", ["two and two", "<think>\ntwo and two\n</think>", "<think>two and two", "two and two</think>"]
)
@pytest.mark.parametrize(
    "text",
    [
        "so 4",
        "<think>two and two</think>so 4",
        "<think>\ntwo and two\n</think>\n\nso 4",
        "two and two</think>so 4",
        "</think>so 4",
    ],
)
def test_a_completion_thinks_once(reasoning: str, text: str):
    """Whatever tags the server leaves on the reasoning, and whether or not the text repeats it."""
    columns = to_completion(Answer(text, reasoning, "stop", 1, 9), "", PromptSettings(), SAMPLING)
    assert columns["completion"] == "<think>\ntwo and two\n</think>\n\nso 4"


@pytest.mark.parametrize(
    ("text", "reasoning", "completion"),
    [
        ("", "<think>two and", "<think>\ntwo and"),
        ("", "<think>two and two</think>so 4", "<think>\ntwo and two\n</think>\n\nso 4"),
        ("so 4", "<think>two and two</think>so 4", "<think>\ntwo and two\n</think>\n\nso 4"),
        ("<think>and two</think>so 4", "three", "<think>\nthree\n\nand two\n</think>\n\nso 4"),
        ("so 4", "[THINK]two and two[/THINK]", "<think>\ntwo and two\n</think>\n\nso 4"),
        ("Write `</think>` here", "two", "<think>\ntwo\n</think>\n\nWrite `</think>` here"),
    ],
)
def test_reasoning_with_tags_of_its_own(text: str, reasoning: str, completion: str):
    assert (
        to_completion(Answer(text, reasoning, "stop", 1, 9), "", PromptSettings(), SAMPLING)["completion"] == completion
    )
