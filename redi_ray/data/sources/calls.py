"""Calls of tools that chats keep beside their text, as OpenAI's do, written into it; and what a row says of its tools.

A message that calls has `tool_calls`, a list of `{function: {name, arguments}}`, or in older data one `function_call`; its
content may be null or missing. `arguments` is JSON, as text or as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from redi_ray.config.import_parts import CALL, TOOLS, WrittenCalls
from redi_ray.data.sources.chats import BadChat, as_chat, calls_of

Message = dict[str, str]


def with_calls(value: Any, how: WrittenCalls) -> Any:
    """A chat with its calls in its text, in the order in which they are made; every other value as it is. Raises BadChat."""
    chat = as_chat(value)
    if chat is None or not any(map(calls_of, chat)):
        return value
    return [_written(message, how) if calls_of(message) else message for message in chat]


def _written(message: Mapping[str, Any], how: WrittenCalls) -> dict[str, Any]:
    said = message.get("content")
    texts = [said] if isinstance(said, str) and said.strip() else []
    if said and not texts and not isinstance(said, str):
        raise BadChat("bad_calls", "a turn calls tools and holds more than text")
    texts += [how.form.replace(CALL, _call(one)) for one in calls_of(message)]
    kept = {name: item for name, item in message.items() if name not in ("tool_calls", "function_call")}
    return {**kept, "content": "\n".join(texts)}


def _call(one: Any) -> str:
    function = one.get("function", one) if isinstance(one, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise BadChat("bad_calls", f"a call of a tool has no name: {json.dumps(one, default=str)[:100]}")
    told = {"name": function["name"], "arguments": _unwritten(function.get("arguments") or {})}
    return json.dumps(told, ensure_ascii=False, default=str)


def told_of_tools(row: Mapping[str, Any], how: WrittenCalls) -> str | None:
    """What is said of a row's tools; None where it names none, or nothing is to be said. Raises BadChat."""
    tools = _unwritten(row.get(how.column))
    if how.told is None or not tools:
        return None
    if not isinstance(tools, list) or not all(isinstance(tool, Mapping) for tool in tools):
        raise BadChat("bad_tools", f"column `{how.column}` is no list of tools, each an object")
    lines = [json.dumps(tool.get("function") or tool, ensure_ascii=False, default=str) for tool in tools]
    return how.told.replace(TOOLS, "\n".join(lines))


def with_tools(prompt: list[Message], told: str | None) -> list[Message]:
    """The prompt with what is said of its tools behind its system turn, or as one."""
    if told is None:
        return prompt
    if prompt[0]["role"] == "system":
        return [{"role": "system", "content": f"{prompt[0]['content']}\n\n{told}"}, *prompt[1:]]
    return [{"role": "system", "content": told}, *prompt]


def _unwritten(value: Any) -> Any:
    """What a text holds that is JSON; every other value as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value
