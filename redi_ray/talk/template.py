"""A chat template that makes of a client's messages the prompt that the model was trained with.

The model's own template knows nothing of what the config adds: the system message, the text around a problem, the date that
the template is told, its variables, the forced beginning of the answer. A server that has only the exported folder would ask the
model otherwise than training and evaluation did. `served_template` puts all of it around the model's template, in its own
language, and `check` holds the result against the prompts that training recorded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from redi_ray.config.prompts import PromptSettings
from redi_ray.errors import UserError
from redi_ray.text.prompts import render_prompt, to_messages
from redi_ray.text.templates import forced_text, turn

ASKED = "1 + 1"
CLOCK = re.compile(r"""strftime_now\(\s*(?P<quote>["'])(?P<form>.*?)(?P=quote)\s*\)""")


class TemplateError(UserError):
    """The served template would ask the model otherwise than training did."""


def served_template(tokenizer: Any, prompt: PromptSettings) -> str:
    """The template of the tokenizer, with what the settings add to each chat: Jinja, as vLLM's `--chat-template` takes it.

    A chat without a system message gets the config's; the last question stands in `prompt.template`, as it does in training.
    Raises PromptError where the template does not take such prompts, TemplateError where it is one of several.
    """
    own = tokenizer.chat_template
    if not isinstance(own, str):
        raise TemplateError(
            f"{tokenizer.name_or_path} has several chat templates ({', '.join(own)}); leave one of them"
        )
    return "".join([*_variables(prompt), _messages(prompt), _stopped(own, prompt), _begun(tokenizer, prompt)])


def _variables(prompt: PromptSettings) -> Iterator[str]:
    """Variables of the template, unless a request names them itself (`chat_template_kwargs`)."""
    for name, value in prompt.template_args.items():
        yield f"{{% if {name} is not defined %}}{{% set {name} = {_literal(value)} %}}{{% endif %}}"


def _literal(value: Any) -> str:
    """A value in Jinja's words, which are those of JSON but for null."""
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_literal(str(name))}: {_literal(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return json.dumps(value, ensure_ascii=False)  # Jinja would read a surrogate pair as two characters


def _stopped(own: str, prompt: PromptSettings) -> str:
    """The template with its clock stopped at the date of the settings."""
    day = datetime.fromisoformat(str(prompt.date))
    # a newline at the very end is none of the output, and would be one with something behind it
    return CLOCK.sub(lambda match: _literal(day.strftime(match["form"])), own).removesuffix("\n")


def _messages(prompt: PromptSettings) -> str:
    """Puts the system message and the text around the problem into `messages`."""
    before, _, after = prompt.template.partition("{problem}")
    lines = []
    if before or after:
        around = f"{_literal(before)} ~ message.content ~ {_literal(after)}"
        lines += [
            "{% set asked = namespace(messages=[], last=-1) %}",
            "{% for message in messages %}{% if message.role == 'user' %}",
            "{% set asked.last = loop.index0 %}{% endif %}{% endfor %}",
            "{% for message in messages %}{% if loop.index0 == asked.last %}",
            f"{{% set asked.messages = asked.messages + [dict(message, content={around})] %}}",
            "{% else %}{% set asked.messages = asked.messages + [message] %}{% endif %}{% endfor %}",
            "{% set messages = asked.messages %}",
        ]
    if prompt.system is not None:
        system = "{'role': 'system', 'content': " + _literal(prompt.system) + "}"
        lines.append(
            f"{{% if messages[0].role != 'system' %}}{{% set messages = [{system}] + messages %}}{{% endif %}}"
        )
    return "".join(lines)


def _begun(tokenizer: Any, prompt: PromptSettings) -> str:
    """The forced beginning of the answer, behind what the template has opened itself."""
    forced = forced_text(turn(tokenizer, prompt), tokenizer, prompt)
    return "{% if add_generation_prompt %}{{ " + _literal(forced) + " }}{% endif %}" if forced else ""


def check(template: str, recorded: Mapping[str, Any], tokenizer: Any, prompt: PromptSettings) -> None:
    """Raise TemplateError unless the template makes of what clients send the prompts that training recorded.

    recorded: see `redi_ray.text.recorded`.
    """
    problems = [ASKED, *asked_of(recorded, prompt)]
    for problem in problems:
        sent = [{"role": "user", "content": problem}]
        there = render_prompt(to_messages(problem, prompt), tokenizer, prompt)
        here = tokenizer.apply_chat_template(sent, chat_template=template, tokenize=False, add_generation_prompt=True)
        if here != there:
            raise TemplateError(
                f"served, the prompt of {problem!r} would be another than in training:\n  training: {there!r}\n"
                f"  served:   {here!r}\n"
                "What of the chat template does not go with `model.prompt` has to be served by hand (`vllm serve` with a "
                "--chat-template of your own)"
            )


def asked_of(recorded: Mapping[str, Any], prompt: PromptSettings) -> Iterator[str]:
    """The problems of one question behind the recorded prompts."""
    before, _, after = prompt.template.partition("{problem}")
    for chat in recorded.get("ids", ()):
        said = [message["content"] for message in chat["messages"] if message["role"] == "user"]
        if len(said) == 1 and said[0].startswith(before) and said[0].endswith(after):
            yield said[0][len(before) : len(said[0]) - len(after)]
