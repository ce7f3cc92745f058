"""Asking an endpoint turn by turn: the model calls a tool, in its text or by OpenAI's `tool_calls`, and the chat goes on.

However a call came over the wire, a trace has it in its text between the tool's marks, so that a student learns one way to call.
The server renders the chat by its own template: what the student is trained behind is the student's, and thoughts that a server
keeps apart are not sent back to it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from redi_ray.config.prompts import END_THINK, PromptSettings
from redi_ray.config.tools import ToolSettings
from redi_ray.data.sample.endpoint import ChatClient
from redi_ray.data.sample.endpoint_wire import Answer, Parameters, Refusal, ToolCall
from redi_ray.data.sample.samples import Sampling, turn_seed
from redi_ray.data.sample.turns import Drawn
from redi_ray.text.prompts import to_messages
from redi_ray.text.templates import ASSISTANT, TOOL
from redi_ray.text.tool_calls import Call, Marks, first_call, stops
from redi_ray.tools.sandbox import Sandbox

ARGUMENTS = {"python": ("code", "Runs Python code in an empty place; what it prints comes back."),
             "calculator": ("expression", "Works out an expression of numbers, + - * / and **.")}  # fmt: skip
"""Tool -> the name of its one argument, and what a server is told of it."""


def offered(tools: ToolSettings) -> list[dict[str, Any]]:
    """The field `tools` of a request."""
    found = []
    for name in tools.names:
        argument, told = ARGUMENTS[name]
        schema = {"type": "object", "properties": {argument: {"type": "string"}}, "required": [argument]}
        found.append({"type": "function", "function": {"name": name, "description": told, "parameters": schema}})
    return found


def written(call: ToolCall, marks: Marks) -> str:
    """A call of `tool_calls` as a text of the model's own. Arguments that are no JSON are taken for what the tool should have
    got, and a tool that there is not for the first one, whose output then says so."""
    name = call.name if call.name in marks else next(iter(marks))
    try:
        told = json.loads(call.arguments)
    except ValueError:
        told = call.arguments
    argument = told.get(ARGUMENTS[name][0], call.arguments) if isinstance(told, dict) else told
    opening, closing = marks[name]
    return f"{opening}{argument}{closing}"


def stopped_at(text: str, finish: str | None, marks: Marks, begin: int = 0) -> str | None:
    """The closing mark that the server stopped at and left out, if it did. begin: as of `first_call`."""
    if finish != "stop" or first_call(text, marks, begin) is not None:
        return None
    return next((stop for stop in stops(marks) if first_call(text + stop, marks, begin) is not None), None)


def behind_thought(text: str, answer: Answer) -> int:
    """Where in a turn the answer begins whose reasoning the server keeps apart: code in that is a draft, and no call."""
    if not answer.reasoning.strip():
        return 0
    _, tag, behind = text.rpartition(END_THINK)
    return len(text) - len(behind) if tag else len(text)


class Conversation:
    """One trace that is being drawn: what the server is sent, and what is kept."""

    def __init__(self, problem: str, sampling: Sampling, prompt: PromptSettings) -> None:
        assert sampling.tools is not None
        self.tools, self.prompt = sampling.tools, prompt
        self.drawn = Drawn(sampling, self.tools, prefix="")
        self.messages: list[dict[str, Any]] = list(to_messages(problem, prompt))
        self.asked: ToolCall | None = None
        """The call that waits for its output, where it came apart from the text."""

    def add_answer(self, answer: Answer, text: str, finish: str | None) -> Call | None:
        """Take up an answer; its call, if one is to be answered. text: with the reasoning and the forced prefix."""
        begin, self.asked = behind_thought(text, answer), None
        stopped = stopped_at(text, finish, self.tools.calls, begin)
        said: dict[str, Any] = {"role": ASSISTANT, "content": answer.text}
        if answer.calls:  # one at a time, as in text
            stopped, self.asked = None, answer.calls[0]
            text += "\n" if text.strip() else ""
            begin = len(text)
            text += written(self.asked, self.tools.calls)
            said |= {"tool_calls": [self.asked.as_sent()]}
        call = self.drawn.add_turn(text, stopped, finish, answer.completion_tokens, answer.prompt_tokens, begin)
        if self.asked is None and call is not None:  # what the trace has cut away is not sent back
            whole, left = answer.text + (stopped or ""), len(text + (stopped or "")) - call.end
            said["content"] = whole[: len(whole) - left]
        self.messages.append(said)
        return call

    def add_output(self, text: str) -> None:
        """Take up what the tool gave back."""
        self.drawn.add_output(text)
        if self.asked is not None:
            self.messages.append({"role": TOOL, "tool_call_id": self.asked.id, "content": text})
        else:
            self.messages.append({"role": self.prompt.tool_role, "content": self.drawn.turns[-1]["content"]})


async def draw_turns(
    row: Mapping[str, Any],
    client: ChatClient,
    parameters: Parameters,
    seed: int,
    sandbox: Sandbox,
    sampling: Sampling,
    prompt: PromptSettings,
    read: Callable[[Answer], dict[str, Any]],
) -> dict[str, Any] | Refusal:
    """The columns of COMPLETION that one trace fills, or why it has none. read: an answer -> its columns as a single turn."""
    talk, tools = Conversation(row["problem"], sampling, prompt), sampling.tools
    assert tools is not None
    more = {"tools": offered(tools)} if tools.native else {"stop": stops(tools.calls)}
    while True:
        told = replace(parameters, max_tokens=talk.drawn.tokens_left, more=more)
        answer = await client.ask(talk.messages, told, turn_seed(seed, talk.drawn.own))
        if isinstance(answer, Refusal):
            return answer
        single = read(answer)
        call = talk.add_answer(answer, single["completion"], single["finish_reason"])
        if call is None:
            return talk.drawn.completion()
        if talk.asked is not None and talk.asked.name not in tools.calls:
            talk.add_output(f"NameError: there is no tool {talk.asked.name!r}, only {', '.join(tools.names)}")
        else:
            output = await asyncio.wrap_future(sandbox.submit(call.tool, call.text))
            talk.add_output(output.text)
