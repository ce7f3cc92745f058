"""A span's tokens are those that hold most of its characters; what cannot be placed is refused, not guessed."""

from __future__ import annotations

from itertools import pairwise

import pytest
from tiny_families import family, sentencepiece
from transformers import ByT5Tokenizer

from redi_ray.config.prompts import PromptSettings
from redi_ray.errors import UserError
from redi_ray.text.spans import Span, _most, span_of_tokens
from redi_ray.text.tokens import encode, places_in

PROMPT = [{"role": "user", "content": "1"}]
TEXT = "<think>\nSo 12 + 30 is 42.</think>\n\nThe answer is 42.<|im_end|>"


def test_a_token_takes_the_span_that_holds_most_of_it_and_of_two_alike_the_earlier():
    spans = [Span(0, 0, 3, 1), Span(0, 3, 4, 1), Span(0, 6, 8, 1)]
    assert _most([(0, 2), (2, 4), (2, 5), (3, 4), (4, 6), (5, 7), (7, 7), (7, 9)], spans) == [0, 0, 0, 1, -1, 2, -1, 2]


@pytest.mark.parametrize(
    "tokenizer", [family("qwen", think=True), family("phi3"), sentencepiece(), sentencepiece("first")]
)
def test_spans_are_found_in_the_text_as_it_is_stored(tokenizer):
    """With the forced prefix and the end-of-turn text that are no part of the completion's tokens; a whole body is all tokens."""
    settings, turns = PromptSettings(), [{"role": "assistant", "content": TEXT}]
    sequence = encode(PROMPT, TEXT, tokenizer, settings)
    at = TEXT.index("30 is")
    spans = [Span(0, TEXT.index("</think>"), TEXT.index("<|im_end|>"), 1), Span(0, at, at + 5, 1)]
    found = span_of_tokens(sequence, turns, spans, tokenizer, settings)
    assert (
        tokenizer.decode([t for t, place in zip(sequence.input_ids, found, strict=True) if place == 1]).strip()
        == "30 is"
    )
    assert (found[: sequence.prompt_length] == -1).all()
    assert found[-1] == -1, "what closes the turn has no characters"
    whole = [Span(0, TEXT.index("So"), TEXT.index("<|im_end|>"), 1)]
    assert (span_of_tokens(sequence, turns, whole, tokenizer, settings)[sequence.prompt_length : -1] == 0).all()
    closed = encode(PROMPT, TEXT.removesuffix("<|im_end|>"), tokenizer, settings)
    cut = [{"role": "assistant", "content": TEXT.removesuffix("<|im_end|>")}]
    behind = [Span(0, at, len(cut[0]["content"]) + 1, 1)]
    assert span_of_tokens(closed, cut, behind, tokenizer, settings)[-1] == 0, (
        "one character more is what closes the turn"
    )
    places = places_in(TEXT, tokenizer, settings)
    assert all(one[1] == other[0] for one, other in pairwise(places)), "no character between two tokens"


@pytest.mark.parametrize(
    ("spans", "told"),
    [
        ([Span(0, 3, 9, 1), Span(0, 8, 10, 1)], "overlap at character 8"),
        ([Span(0, 3, 999, 1)], r"\[3, 999\) of turn 0, which has"),
        ([Span(0, 3, 3, 1)], r"\[3, 3\)"),
        ([Span(1, 0, 1, 1)], "turn 1, which is none of the model's own"),
        ([Span(0, 0, 1, float("nan"))], "the value nan"),
    ],
)
def test_spans_that_make_no_sense_are_refused(spans: list[Span], told: str):
    tokenizer, settings = family("qwen"), PromptSettings()
    sequence = encode(PROMPT, TEXT, tokenizer, settings)
    with pytest.raises(ValueError, match=told):
        span_of_tokens(sequence, [{"role": "assistant", "content": TEXT}], spans, tokenizer, settings)


def test_a_tokenizer_without_offsets_is_refused():
    sequence = encode(PROMPT, TEXT, family("qwen"), PromptSettings())
    with pytest.raises(UserError, match=r"a span of characters needs .* fast one.*ByT5Tokenizer"):
        span_of_tokens(sequence, [], [], ByT5Tokenizer(), PromptSettings())
