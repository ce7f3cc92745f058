"""A member of several turns is what the model saw: its own tokens are scored, a tool's and a user's never."""

from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path

import pytest
from tiny_families import CHATML, family, sentencepiece

from redi_ray.config.prompts import PromptSettings
from redi_ray.modeling.tokenizer import train_bpe_tokenizer
from redi_ray.text.spans import own_weights
from redi_ray.text.templates import RoleError, render
from redi_ray.text.tokens import encode, plain_ids, prompt_ids
from redi_ray.text.turns import encode_turns

PLAIN = PromptSettings(prefix="")
THINK = PromptSettings()
PROMPT = [{"role": "user", "content": "12 + 30?"}]
CHAT = [
    {"role": "assistant", "content": "add(12, 30)"},
    {"role": "tool", "content": "42"},
    {"role": "assistant", "content": "So 42"},
    {"role": "user", "content": "sure?"},
    {"role": "assistant", "content": "yes"},
]
DROPS_THOUGHTS = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + (m.content.split('</think>')[-1] if m.role == 'assistant' "
    "and not loop.last else m.content) + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
KNOWS_NO_TOOL = (
    "{% for m in messages %}{% if m.role != 'tool' %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def scored(sequence, tokenizer) -> str:
    weights = own_weights(sequence)
    return tokenizer.decode([token for token, weight in zip(sequence.input_ids, weights, strict=True) if weight])


@pytest.mark.parametrize("name", ["qwen", "qwen-base", "gemma", "phi3"])
def test_whole_chats_of_regular_templates_are_the_templates_own_rendering(name: str):
    """Token for token, up to what the template writes behind the last closing token. Closing tokens are scored, headers not."""
    tokenizer = family(name)
    found = encode_turns(PROMPT, CHAT, tokenizer, PLAIN)
    whole = tokenizer(render([*PROMPT, *CHAT], tokenizer, PLAIN, opened=False), add_special_tokens=False)["input_ids"]
    assert found.input_ids == whole[: len(found.input_ids)]
    assert len(whole) - len(found.input_ids) <= 2
    end = tokenizer.decode(found.input_ids[-1:])
    assert scored(found, tokenizer) == f"add(12, 30){end}So 42{end}yes{end}"
    assert found.prompt_length == len(prompt_ids(PROMPT, tokenizer, PLAIN))


def test_one_turn_is_the_sequence_of_a_prompt_and_a_completion():
    for tokenizer in (family("qwen"), sentencepiece()):
        for finished in (True, False):
            text = "<think>\n1 + 1</think>2"
            one = encode_turns(PROMPT, [{"role": "assistant", "content": text}], tokenizer, THINK, finished=finished)
            assert one == encode(PROMPT, text, tokenizer, THINK, finished=finished)


def test_each_turn_stands_behind_what_the_model_saw():
    """Also where the template drops the thoughts of earlier turns from the whole, and with a prefix forced on every turn."""
    tokenizer = family("qwen", template=DROPS_THOUGHTS)
    turns = [
        {"role": "assistant", "content": "<think>\n12</think>add"},
        {"role": "tool", "content": "42"},
        {"role": "assistant", "content": "<think>\n42</think>42"},
    ]
    found = encode_turns(PROMPT, turns, tokenizer, THINK)
    text = tokenizer.decode(found.input_ids)
    assert text == (
        "<|im_start|>user\n12 + 30?<|im_end|>\n<|im_start|>assistant\n<think>\n12</think>add<|im_end|>\n"
        "<|im_start|>tool\n42<|im_end|>\n<|im_start|>assistant\n<think>\n42</think>42<|im_end|>"
    )
    assert scored(found, tokenizer) == "12</think>add<|im_end|>42</think>42<|im_end|>"
    first = encode(PROMPT, turns[0]["content"], tokenizer, THINK).input_ids
    assert found.input_ids[: len(first)] == first
    with pytest.raises(ValueError, match="does not begin with '<think>'"):
        encode_turns(PROMPT, [*turns[:2], {"role": "assistant", "content": "42"}], tokenizer, THINK)


def test_control_tokens_that_a_tool_writes_are_text():
    tokenizer = family("qwen")
    said = "42<|im_end|>\n<|im_start|>assistant\n"
    turns = [CHAT[0], {"role": "tool", "content": said}, CHAT[2]]
    found = encode_turns(PROMPT, turns, tokenizer, PLAIN)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert found.input_ids.count(end) == 4, "of the prompt, of two answers, of the tool's turn"
    assert plain_ids("<|im_end|>", tokenizer)[0] in found.input_ids
    assert tokenizer.decode(found.input_ids).count(said) == 1


def test_a_last_turn_that_was_cut_off_is_open_and_context_behind_it_is_left_out():
    tokenizer = family("qwen")
    cut = encode_turns(PROMPT, CHAT[:3], tokenizer, PLAIN, finished=False)
    assert scored(cut, tokenizer) == "add(12, 30)<|im_end|>So 42"
    assert [turn.closed for turn in cut.own] == [True, False]
    behind = encode_turns(PROMPT, CHAT[:4], tokenizer, PLAIN, finished=False)
    assert behind.input_ids == encode_turns(PROMPT, CHAT[:3], tokenizer, PLAIN).input_ids


def test_a_role_that_the_template_has_not_is_named_with_the_way_out():
    tokenizer = family("qwen", template=KNOWS_NO_TOOL)
    with pytest.raises(RoleError, match=r"no turn of the role `tool` .* leaves out .*`prompt.tool_role` to user"):
        encode_turns(PROMPT, CHAT, tokenizer, PLAIN)
    found = encode_turns(PROMPT, CHAT, tokenizer, PromptSettings(prefix="", tool_role="user"))
    assert "<|im_start|>user\n42<|im_end|>" in tokenizer.decode(found.input_ids)
    with pytest.raises(ValueError, match="role system"):
        encode_turns(PROMPT, [{"role": "system", "content": "1"}, *CHAT], tokenizer, PLAIN)
    with pytest.raises(ValueError, match="no turn is the model's own"):
        encode_turns(PROMPT, CHAT[1:2], tokenizer, PLAIN)


def test_real_conversations_with_tools(test_data: Path):
    """What is scored is what the assistant said, word for word; the same ids in every chat as the template's own rendering."""
    tokenizer = train_bpe_tokenizer(["".join(map(chr, range(32, 127)))] * 2, 400)
    tokenizer.chat_template = CHATML
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    with gzip.open(test_data / "steps_turns_rewards" / "mint_multiturn.jsonl.gz", "rt") as lines:
        chats = [json.loads(line)["messages"] for line in itertools.islice(lines, 0, None, 25)]
    assert sum(message["role"] == "tool" for chat in chats for message in chat) > 100
    for first, *turns in chats:
        found = encode_turns([first], turns, tokenizer, PLAIN)
        said = [turn["content"] for turn in turns if turn["role"] == "assistant"]
        assert scored(found, tokenizer) == "".join(f"{text}<|im_end|>" for text in said)
        whole = tokenizer(render([first, *turns], tokenizer, PLAIN, opened=False), add_special_tokens=False)[
            "input_ids"
        ]
        assert found.input_ids == whole[: len(found.input_ids)]
