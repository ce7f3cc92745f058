"""What a client sends to the server becomes the prompt of training, character by character."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tiny_families import family

from redi_ray.config.prompts import PromptSettings
from redi_ray.modeling.tokenizer import character_tokenizer
from redi_ray.talk.template import TemplateError, check, served_template
from redi_ray.text.prompts import render_prompt, to_messages
from redi_ray.text.recorded import record_problems

HOSTILE = "say \"{{ 1 }}\" 'n' \\boxed{} {% raw %} 😀 é\n"
SETTINGS = [
    PromptSettings(),
    PromptSettings(prefix=""),
    PromptSettings(template=f"{HOSTILE}{{problem}} {HOSTILE}", prefix='<think>\nHm. "So" it\'s {{ 2 }} \U0001f600\n'),
    PromptSettings(system=HOSTILE, template="{problem}\nBox it."),
]
PROBLEMS = ["1 + 1", HOSTILE, "a\n\nb", ""]


def served(tokenizer: Any, settings: PromptSettings, messages: list[dict[str, str]], **told: Any) -> str:
    template = served_template(tokenizer, settings)
    return tokenizer.apply_chat_template(
        messages, chat_template=template, tokenize=False, add_generation_prompt=True, **told
    )


@pytest.mark.parametrize("settings", SETTINGS, ids=["plain", "no prefix", "template", "system"])
@pytest.mark.parametrize("name", ["own", "qwen-base", "qwen2.5", "llama3"])
def test_a_question_is_asked_as_in_training(name: str, settings: PromptSettings):
    tokenizer = character_tokenizer("0123456789") if name == "own" else family(name)
    for problem in PROBLEMS:
        there = render_prompt(to_messages(problem, settings), tokenizer, settings)
        assert served(tokenizer, settings, [{"role": "user", "content": problem}]) == there
    check(served_template(tokenizer, settings), record_problems(PROBLEMS, tokenizer, settings), tokenizer, settings)


def test_a_chat_asks_its_last_question_and_keeps_its_own_system_message():
    settings = PromptSettings(template="Q: {problem}", system="ours")
    tokenizer = character_tokenizer("0123456789")
    turns = [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}, {"role": "user", "content": "3"}]
    text = served(tokenizer, settings, turns)
    assert text == (
        "<|system|>ours<|end|><|user|>1<|end|><|assistant|>2<|end|><|user|>Q: 3<|end|><|assistant|><think>\n"
    )
    assert "ours" not in served(tokenizer, settings, [{"role": "system", "content": "theirs"}, *turns])


def test_variables_and_the_clock_are_those_of_the_config_unless_a_request_says_otherwise():
    tokenizer = character_tokenizer("0123456789")
    tokenizer.chat_template = (
        "{{ strftime_now('%d %b %Y') }}{% if deep %} deep{{ deep }}{% endif %}\n"
        "{% for m in messages %}[{{ m['content'] }}]{% endfor %}{% if add_generation_prompt %}:{% endif %}\n"
    )
    settings = PromptSettings(template_args={"deep": [True, None, {"a": "'"}]}, date="2020-02-03", prefix="")
    there = render_prompt(to_messages("1", settings), tokenizer, settings)
    assert "03 Feb 2020" in there
    assert "deep[True, None, {" in there
    chat = [{"role": "user", "content": "1"}]
    assert served(tokenizer, settings, chat) == there
    assert "deep" not in served(tokenizer, settings, chat, deep=False)


def test_what_would_be_asked_otherwise_is_refused():
    """A clock that is asked in a way that cannot be read from the template's text."""
    tokenizer = character_tokenizer("0123456789")
    tokenizer.chat_template = (
        "{% set f = '%Y' %}{{ strftime_now(f) }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    )
    settings = PromptSettings(prefix="")
    with pytest.raises(TemplateError, match="another than in training"):
        check(served_template(tokenizer, settings), record_problems(["1"], tokenizer, settings), tokenizer, settings)
    tokenizer.chat_template = {"default": "x", "tools": "y"}
    with pytest.raises(TemplateError, match="several chat templates"):
        served_template(tokenizer, replace(settings, template="Q {problem}"))
