"""Turns in templates of the shapes of Qwen2.5, Qwen3, Llama 3, Gemma and R1's distillations: what a turn is trained behind is
what the model saw when it wrote it, byte for byte, also where the template rewrites earlier turns later on."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_families import FAMILIES, family

from redi_ray.config.prompts import PromptSettings
from redi_ray.text.spans import own_weights
from redi_ray.text.templates import PromptError, RoleError, render
from redi_ray.text.turns import encode_turns, opened_ids, require_turns

TOOL_AS_USER = (
    "{% elif m.role == 'tool' %}{% if loop.index0 == 0 or messages[loop.index0 - 1].role != 'tool' %}{{ '<|im_start|>user' }}"
    "{% endif %}{{ '\n<tool_response>\n' + m.content + '\n</tool_response>' }}"
    "{% if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|im_end|>\n' }}{% endif %}"
)
OPENS = "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
QWEN25 = (
    "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\nBe of help.<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{% if m.role != 'tool' %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    + TOOL_AS_USER
    + "{% endif %}"
    + OPENS
)
QWEN3 = (
    "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}"
    "{% endfor %}{% for m in messages %}{% if m.role == 'assistant' %}{% set parts = m.content.split('</think>') %}"
    "{% set answer = parts[-1].lstrip('\n') %}{{ '<|im_start|>assistant\n' }}"
    "{% if loop.index0 > ns.last and parts | length > 1 %}"
    "{{ '<think>\n' + parts[0].split('<think>')[-1].strip('\n') + '\n</think>\n\n' }}{% endif %}{{ answer + '<|im_end|>\n' }}"
    "{% elif m.role != 'tool' %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    + TOOL_AS_USER
    + "{% endif %}"
    + OPENS
)
LLAMA3 = (
    "{{ bos_token + '<|start_header_id|>system<|end_header_id|>\n\nToday: ' + strftime_now('%d %b %Y') + '<|eot_id|>' }}"
    "{% for m in messages %}{{ '<|start_header_id|>' + ('ipython' if m.role == 'tool' else m.role) + '<|end_header_id|>\n\n' }}"
    "{% if m.role == 'tool' %}{{ m.content | tojson }}{% else %}{{ m.content | trim }}{% endif %}{{ '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{{ '<start_of_turn>' }}"
    "{{ ('model' if m.role == 'assistant' else m.role) + '\n' + m.content | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
R1 = (
    "{% set ns = namespace(tool=false) %}{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{% set ns.tool = false %}"
    "{{ '<|User|>' + m.content }}{% elif m.role == 'assistant' %}{% if ns.tool %}{{ '<|outputs_end|>' }}{% else %}"
    "{{ '<|Assistant|>' }}{% endif %}{% set ns.tool = false %}{{ m.content.split('</think>')[-1] + '<|end_of_sentence|>' }}"
    "{% elif m.role == 'tool' %}{% if not ns.tool %}{{ '<|outputs_begin|>' }}{% endif %}{% set ns.tool = true %}"
    "{{ '<|output_begin|>' + m.content + '<|output_end|>' }}{% endif %}{% endfor %}"
    "{% if ns.tool %}{{ '<|outputs_end|>' }}{% endif %}"
    "{% if add_generation_prompt and not ns.tool %}{{ '<|Assistant|><think>\n' }}{% endif %}"
)
RENUMBERS = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + ' ' + loop.revindex | string + '\n' + m.content + '<|im_end|>\n' }}"
    + OPENS
)
ADDED = {
    "llama3": (LLAMA3, ("<bot>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<bos>"), "<|eot_id|>", "<|eot_id|>"),
    "r1": (
        R1,
        ("<bos>", "<|User|>", "<|Assistant|>", "<|end_of_sentence|>", "<|outputs_begin|>", "<|outputs_end|>", "<|output_begin|>",
         "<|output_end|>"),
        "<|end_of_sentence|>", "<|end_of_sentence|>",
    ),
}  # fmt: skip
SHAPES = {
    "qwen2.5": ("qwen", QWEN25), "qwen3": ("qwen", QWEN3), "llama3": ("llama3", LLAMA3), "gemma": ("gemma", GEMMA),
    "r1": ("r1", R1), "renumbers": ("qwen", RENUMBERS),
}  # fmt: skip
PROMPT = [{"role": "user", "content": "12 * 30, plus 5?"}]
CALLS = [
    "<think>\nfirst the product\n</think>\n\nprint(12 * 30) ",
    "<think>\n\nnow the sum</think>print(360 + 5)\n",
    "\\boxed{365}",
]
OUTPUTS = ["360\n", "  File \"<tool>\"\nZeroDivisionError: 'no'\n"]


def tokenizer_of(shape: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    name, template = SHAPES[shape]
    for added, told in ADDED.items():
        monkeypatch.setitem(FAMILIES, added, told)
    return family(name, template=template)


def trace(prefix: str = "") -> list[dict[str, str]]:
    turns = []
    for call, output in zip(CALLS, [*OUTPUTS, None], strict=True):
        turns.append({"role": "assistant", "content": call if call.startswith(prefix) else prefix + call})
        turns += [] if output is None else [{"role": "tool", "content": output}]
    return turns


@pytest.mark.parametrize("prefix", ["", "<think>\n"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_turn_is_trained_behind_what_the_model_saw(shape: str, prefix: str, monkeypatch: pytest.MonkeyPatch):
    """A sampler asks for the first turn, runs the call, asks for the second one, and so on: it never sees what comes later."""
    tokenizer = tokenizer_of(shape, monkeypatch)
    as_user = shape == "gemma" or (shape == "r1" and not prefix)
    settings = PromptSettings(prefix=prefix, tool_role="user" if as_user else "tool")
    turns = trace(prefix or ("<think>\n" if shape == "r1" else ""))
    require_turns(tokenizer, settings)
    whole = encode_turns(PROMPT, turns, tokenizer, settings)
    seen = [opened_ids(PROMPT, turns[:at], tokenizer, settings) for at in (0, 2, 4)]
    for own, before in zip(whole.own, seen, strict=True):
        assert whole.input_ids[: own.start] == before
    text, end = tokenizer.decode(whole.input_ids), whole.input_ids[-1]
    for turn, own in zip(turns[::2], whole.own, strict=True):
        written = tokenizer.decode(whole.input_ids[own.start : own.stop - 1])
        assert turn["content"].endswith(written), "nothing of a turn is trimmed, for nothing was when it was sampled"
        assert turn["content"] in text
        assert whole.input_ids[own.stop - 1] == end
    assert all(output.strip() in text.replace("\\n", "\n").replace('\\"', '"').replace("\\u0027", "'").replace("\\u003c", "<")
               .replace("\\u003e", ">") for output in OUTPUTS)  # fmt: skip
    weights = own_weights(whole)
    assert sum(weights) == sum(own.stop - own.start for own in whole.own)
    assert not any(weights[: whole.own[0].start])


@pytest.mark.parametrize("shape", ["qwen2.5", "llama3", "r1"])
@pytest.mark.parametrize("output", ["", " \n", "<|im_end|>", "</think>", "a"])
def test_a_tool_may_say_nothing_or_what_looks_like_the_template(
    shape: str, output: str, monkeypatch: pytest.MonkeyPatch
):
    """Nothing of it becomes control: the same control tokens stand there as behind an output that is a number."""
    tokenizer, settings = tokenizer_of(shape, monkeypatch), PromptSettings(prefix="<think>\n")
    turns, control = trace("<think>\n"), set(tokenizer.get_added_vocab().values())
    found = [
        encode_turns(PROMPT, [turns[0], {**turns[1], "content": said}, turns[2]], tokenizer, settings)
        for said in ("7", output)
    ]
    first, second = ([token for token in one.input_ids if token in control] for one in found)
    assert first == second
    assert found[1].input_ids[: found[1].own[1].start] == opened_ids(
        PROMPT, [turns[0], {**turns[1], "content": output}], tokenizer, settings
    )


@pytest.mark.parametrize(
    ("shape", "between"),
    [
        ("qwen2.5", "<|im_end|>\n<|im_start|>user\n<tool_response>\n360\n\n</tool_response><|im_end|>\n<|im_start|>assistant\n"),
        ("llama3", '<|eot_id|><|start_header_id|>ipython<|end_header_id|>\n\n"360\\n"<|eot_id|><|start_header_id|>assistant'
                   "<|end_header_id|>\n\n"),
        ("gemma", "<end_of_turn>\n<start_of_turn>user\n360<end_of_turn>\n<start_of_turn>model\n"),
        ("r1", "<|end_of_sentence|><|outputs_begin|><|output_begin|>360\n<|output_end|><|outputs_end|><think>\n"),
        ("renumbers", "<|im_end|>\n<|im_start|>tool 1\n360\n<|im_end|>\n<|im_start|>assistant\n"),
    ],
)  # fmt: skip
def test_what_stands_between_two_turns(shape: str, between: str, monkeypatch: pytest.MonkeyPatch):
    """By hand. No header is written twice, and none is left out that the template writes."""
    tokenizer = tokenizer_of(shape, monkeypatch)
    settings = PromptSettings(
        prefix="<think>\n" if shape == "r1" else "", tool_role="user" if shape == "gemma" else "tool"
    )
    turns = trace(settings.prefix)
    whole = encode_turns(PROMPT, turns, tokenizer, settings)
    first, second = whole.own[:2]
    assert tokenizer.decode(whole.input_ids[first.stop - 1 : second.start]) == between


def test_thoughts_of_earlier_turns_stay_where_the_template_drops_them_from_the_whole(
    monkeypatch: pytest.MonkeyPatch,
):
    """In the whole chat R1's and, behind a user's turn, Qwen3's have them no more; the model saw them when it went on."""
    for shape, role in (("r1", "tool"), ("qwen3", "user")):
        tokenizer = tokenizer_of(shape, monkeypatch)
        settings = PromptSettings(prefix="<think>\n", tool_role=role)
        turns = trace("<think>\n")
        assert "first the product" not in render([*PROMPT, *turns], tokenizer, settings, opened=False)
        assert "first the product" in tokenizer.decode(encode_turns(PROMPT, turns, tokenizer, settings).input_ids)


def test_templates_that_have_no_such_turns_are_refused_at_set_up(monkeypatch: pytest.MonkeyPatch):
    tokenizer = tokenizer_of("gemma", monkeypatch)
    with pytest.raises(RoleError, match=r"refuses it \(roles must alternate\).*set `prompt.tool_role` to user"):
        require_turns(tokenizer, PromptSettings(prefix=""))
    forgets = "{% for m in messages[-1:] %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}" + OPENS
    with pytest.raises(
        PromptError, match=r"begins the model's turn with '<think>\\n' behind the prompt, and not behind a later"
    ):
        require_turns(tokenizer_of("r1", monkeypatch), PromptSettings(prefix=""))
    with pytest.raises(PromptError, match="leaves out"):
        require_turns(family("qwen", template=forgets), PromptSettings(prefix=""))
