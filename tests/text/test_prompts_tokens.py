"""Prompts of training and evaluation are one string and one list of ids; what is scored is exactly the completion."""

from __future__ import annotations

import pytest
from transformers import Qwen2Tokenizer

from redi_ray.config.prompts import PromptSettings
from redi_ray.modeling.tokenizer import character_tokenizer
from redi_ray.text.prompts import fold_reasoning, render_prompt, strip_prefix, to_messages
from redi_ray.text.spans import own_weights
from redi_ray.text.tokens import completion_ids, encode, prompt_ids, tag_places

THINK = PromptSettings(prefix="<think>\n")
TOKENIZER = character_tokenizer("0123456789+=}\n")


def test_prompt_bytes():
    messages = to_messages("1+1", PromptSettings(template="Solve {problem} = ", system="0", prefix="<think>\n"))
    assert (
        render_prompt(messages, TOKENIZER, THINK)
        == "<|system|>0<|end|><|user|>Solve 1+1 = <|end|><|assistant|><think>\n"
    )


def test_braces_in_a_problem_are_left_alone():
    assert to_messages(r"\frac{1}{2} {problem}", PromptSettings(template="Q: {problem}"))[0]["content"].endswith(
        "{problem}"
    )


def test_a_template_that_opens_the_reasoning_itself_is_not_opened_twice():
    tokenizer = character_tokenizer("1+")
    tokenizer.chat_template = tokenizer.chat_template.replace("'<|assistant|>' }}", "'<|assistant|><think>\\n' }}")
    assert render_prompt(to_messages("1", THINK), tokenizer, THINK).count("<think>") == 1


@pytest.mark.parametrize(
    ("completion", "body"),
    [
        ("<think>\n1</think>", "1</think>"),
        ("<think>1</think>", "1</think>"),  # another pipeline's traces lack the newline
        ("\n<think>\n1", "1"),
        ("1+1=2", None),
    ],
)
def test_the_forced_prefix_is_taken_off_once(completion: str, body: str | None):
    assert strip_prefix(completion, THINK) == body


def test_encoding_is_the_prompt_a_sampler_sends_plus_the_completion_and_its_end():
    messages = to_messages("1+1", THINK)
    sequence = encode(messages, "<think>\n1+1=2\n</think>\n\\boxed{2}", TOKENIZER, THINK)
    assert sequence.input_ids[: sequence.prompt_length] == prompt_ids(messages, TOKENIZER, THINK)
    assert TOKENIZER.decode(sequence.input_ids[sequence.prompt_length :]) == "1+1=2\n</think>\n\\boxed{2}<|end|>"
    mask = own_weights(sequence).tolist()
    assert sum(mask) == len(sequence.input_ids) - sequence.prompt_length
    assert not any(mask[: sequence.prompt_length])


def test_tags_of_several_tokens_are_found_with_what_they_are_merged_with():
    """As in Qwen2.5's vocabulary: `</`, `think`, and `>` that takes the line break after it along. A `>` elsewhere stays."""
    letters = [*"12<>/think", "Ċ"]
    merges = [("<", "/"), ("t", "h"), ("i", "n"), ("th", "in"), ("thin", "k"), (">", "Ċ")]
    tokens = ["<|end|>", *dict.fromkeys([*letters, *("".join(pair) for pair in merges)])]
    tokenizer = Qwen2Tokenizer(vocab={t: i for i, t in enumerate(tokens)}, merges=merges, eos_token="<|end|>")
    completion, tags = "<think>\n1</think>\n2>1<think>", ["<think>", "</think>"]
    ids = completion_ids(completion, tokenizer, THINK)
    places = tag_places(completion, tags, tokenizer, THINK)
    assert [tokenizer.decode(ids[place]) for place in sorted(places)] == ["</", "think", ">\n", "<", "think", ">"]
    kept = tokenizer.decode([token for place, token in enumerate(ids) if place not in places])
    assert kept == "12>1<|end|>"
    assert tag_places("<think>\n12", tags, tokenizer, THINK) == frozenset()


def test_a_completion_without_the_prefix_is_refused():
    with pytest.raises(ValueError, match="does not begin with '<think>'"):
        encode(to_messages("1", THINK), "1", TOKENIZER, THINK)


def test_reasoning_that_a_server_keeps_apart_is_folded_in():
    plain = PromptSettings(prefix="")
    for settings in (THINK, plain):
        assert fold_reasoning("so 4\n", " 2+2 \n", settings) == "<think>\n2+2\n</think>\n\nso 4"
        assert fold_reasoning("", "2+", settings) == "<think>\n2+", "cut off while thinking"
        assert fold_reasoning("2+2\n</think>\n\nso 4", "", settings) == "<think>\n2+2\n</think>\n\nso 4"
        for whole in ("<think>\n2+2\n</think>\n\nso 4", "so 4", ""):
            assert fold_reasoning(whole, "", settings) == whole
    body = strip_prefix(fold_reasoning("so 4", "2+2", THINK), THINK)
    assert body == "2+2\n</think>\n\nso 4"
