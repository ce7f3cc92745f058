"""Text that data keep as a chat: messages of {role, content} or {from, value}, as lists, one message, JSON or Python text, or
Anthropic's transcripts (`\n\nHuman: ...\n\nAssistant: ...`).

A problem is the last user turn with all that stands before it, a completion the one assistant turn, or all turns after the
problem. What would be lost is refused with a reason: turns of tools in a problem, calls of tools outside of the text, and a
system turn, since the trace may depend on it and is trained with ours. Imported sets keep all turns (`read_turns`).
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from redi_ray.config.prompts import PromptSettings
from redi_ray.data.sources.values import BadValue
from redi_ray.text.blocks import with_blocks_apart
from redi_ray.text.dialogue import as_problem
from redi_ray.text.prompts import fold_reasoning

Role = Literal["user", "assistant"]
ROLES = {
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "bot", "chatgpt", "ai"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "function", "observation", "environment", "ipython"), "tool"),
}
"""Names of roles, in small letters, and what they are here."""
KEYS = (("role", "content"), ("from", "value"))
PRINTED = re.compile(r"\[?\s*\{'(?:role|content|from|value)':")
"""Begins a chat as Python prints it, which is what pandas writes into a cell of a CSV file."""
TRANSCRIPT = re.compile(r"Human:.*?\n\nAssistant:", re.DOTALL)
SPEAKER = re.compile(r"(?:^|\n\n)(Human|Assistant):")


class BadChat(BadValue):
    """A chat that is no single text: `reason` in a word, and how to mend it."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def read_text(value: Any, role: Role) -> str | None:
    """The text of a column: itself, or the one turn of `role` in a chat; None if it is neither text nor a chat.

    Raises BadChat for a chat without exactly one such turn, or with turns that would be lost.
    """
    chat = as_chat(value)
    if chat is None:
        _require_read(value)
        return value if isinstance(value, str) else None
    turns = _turns(chat)
    names = [name for name, _ in turns]
    if names not in (["user"], ["assistant"], ["user", "assistant"]):
        raise BadChat(
            "several_turns",
            f"the chat has the turns {', '.join(names) or '(none)'}; only one question and one answer fit here",
        )
    found = dict(turns)
    if role not in found:
        raise BadChat("no_such_turn", f"the chat has no {role} turn, only {', '.join(names)}; name another column")
    return found[role]


def read_problem(value: Any) -> str | None:
    """The problem of a column: a text, or the last question of a chat with what went before (`redi_ray.text.dialogue`), whose
    answer may follow; None if it is neither text nor a chat. Raises BadChat where turns would be lost."""
    chat = as_chat(value)
    turns = [] if chat is None else _turns(chat)
    if sum(name == "user" for name, _ in turns) < 2:
        return read_text(value, "user")
    names = [name for name, _ in turns]
    if set(names) - {"user", "assistant"} or any(one == other for one, other in pairwise(names)) or names[0] != "user":
        raise BadChat(
            "several_turns",
            f"the chat has the turns {', '.join(names)}; before its last question only questions and answers fit, in turn. Make "
            "turns in a row one, put a tool's word into the text; a chat that is to be learnt from whole belongs to a step "
            "`import`",
        )
    asked = turns if names[-1] == "user" else turns[:-1]
    return as_problem([{"role": name, "content": text} for name, text in asked])


def behind_problem(value: Any) -> Any:
    """What of a chat follows the problem that `read_problem` has read of it; other values as they are."""
    chat = as_chat(value)
    if chat is None or sum(_turn(message)[0] == "user" for message in chat) < 2:
        return value
    return [message for message in chat[-1:] if _turn(message)[0] == "assistant"]


@dataclass(frozen=True)
class Answer:
    """What a model made of a problem."""

    text: str
    """Its answer; of several turns, the last one of the model's own."""
    turns: list[dict[str, str]] | None = None
    """All that follows the problem, a list of {role, content}: assistant, tool, user; None where it is one answer."""

    @property
    def broken_off(self) -> bool:
        """Whether a tool or a user has the last word."""
        return self.turns is not None and self.turns[-1]["role"] != "assistant"


def read_completion(value: Any, *, tool_blocks: bool = False) -> Answer | None:
    """A completion of one turn or more, without the question that a chat may begin with; None if it is neither text nor a chat.

    tool_blocks: whether output blocks are turns of a tool's (`redi_ray.text.blocks`).
    Raises BadChat for a chat without an answer, or one that cannot be trained on as it is.
    """
    chat = as_chat(value)
    turns = [] if chat is None else _turns(chat)
    turns = turns[1:] if turns and turns[0][0] == "user" else turns
    if len(turns) < 2:
        text = read_text(value, "assistant")
        if text is None or not tool_blocks:
            return None if text is None else Answer(text)
        turns = [("assistant", text)]
    if tool_blocks:
        apart = with_blocks_apart([{"role": name, "content": text} for name, text in turns])
        turns = [(turn["role"], turn["content"]) for turn in apart]
    if len(turns) == 1:
        return Answer(turns[0][1])
    names = [name for name, _ in turns]
    if unknown := sorted(set(names) - {"assistant", "tool", "user"}):
        raise BadChat("unknown_role", f"the chat has turns of {', '.join(unknown)}; write assistant, tool or user")
    if names[0] != "assistant":
        raise BadChat("several_turns", f"a {names[0]} turn stands before the first answer; only one question fits")
    if any(one == other == "assistant" for one, other in pairwise(names)):
        raise BadChat("several_turns", "the chat has two answers in a row; make them one turn")
    last = next(text for name, text in reversed(turns) if name == "assistant")
    return Answer(last, [{"role": name, "content": text} for name, text in turns])


def _turns(chat: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """(role, text) of a chat's turns. Raises BadChat where a system turn would be lost."""
    turns = [_turn(message) for message in chat]
    if any(name == "system" and text.strip() for name, text in turns):
        raise BadChat(
            "system_turn",
            "the chat has a system turn, which would be lost; take it out of the data and, if it shall be kept, set "
            "model.prompt.system",
        )
    return [turn for turn in turns if turn[0] != "system"]


def read_turns(value: Any, role: Role) -> list[dict[str, str]] | None:
    """The turns of a column, {role, content} each: those of a chat, or one turn of `role` for a text; None if it is neither.

    Raises BadChat for turns that are no text, call tools, or are of a role that nobody knows.
    """
    chat = as_chat(value)
    if chat is None:
        _require_read(value)
        return [{"role": role, "content": value}] if isinstance(value, str) else None
    turns = [_turn(message) for message in chat]
    if unknown := [name for name, _ in turns if name not in ROLES.values()]:
        known = ", ".join(dict.fromkeys(ROLES.values()))
        raise BadChat("unknown_role", f"the chat has a turn of {unknown[0]!r}; roles are {known}")
    return [{"role": name, "content": text} for name, text in turns]


def is_chat(value: Any) -> bool:
    """Whether a list is a chat rather than several texts."""
    return isinstance(value, list) and bool(value) and all(_is_message(item) for item in value)


def as_chat(value: Any) -> list[dict[str, Any]] | None:
    """The messages of a chat in any of its forms; None for all else."""
    value = _unwritten(value) if isinstance(value, str) else value
    if _is_message(value):
        return [value]
    return value if is_chat(value) else None


def _unwritten(text: str) -> Any:
    """What a text holds that is a chat written down; the text itself, or None, for all else."""
    bare = text.lstrip()
    try:
        if PRINTED.match(bare):
            return ast.literal_eval(bare.rstrip())
        if bare[:2] in ("[{", '{"'):
            return json.loads(bare)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return _transcript(bare) if TRANSCRIPT.match(bare) else text


def _transcript(text: str) -> list[dict[str, str]]:
    """The turns of one of Anthropic's transcripts. One that ends where the answer begins is what is asked."""
    _, *parts = SPEAKER.split(text.rstrip())
    turns = [
        {"role": {"Human": "user", "Assistant": "assistant"}[who], "content": said.strip()}
        for who, said in zip(parts[::2], parts[1::2], strict=True)
    ]
    return turns if turns[-1]["content"] or turns[-1]["role"] == "user" else turns[:-1]


def _require_read(value: Any) -> None:
    """Raise BadChat for the text of a chat that cannot be read back, which is no answer."""
    if isinstance(value, str) and PRINTED.match(value.lstrip()):
        raise BadChat(
            "printed_chat",
            "holds a chat as Python or numpy prints it, as pandas writes it into CSV, which cannot be read back: save the set "
            "as JSON lines or Parquet",
        )


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and any(
        isinstance(value.get(who), str) and (what in value or calls_of(value)) for who, what in KEYS
    )  # nulls of a Parquet struct are no names


def calls_of(message: Mapping[str, Any]) -> list[Any]:
    """The calls of tools that a message keeps beside its text."""
    calls, one = message.get("tool_calls"), message.get("function_call")
    return list(calls) if isinstance(calls, list) else [one] if one else []


def _turn(message: dict[str, Any]) -> tuple[str, str]:
    """Role and text of a message, its reasoning folded in where that is kept apart."""
    who, what = next(
        key for key in KEYS if isinstance(message.get(key[0]), str) and (key[1] in message or calls_of(message))
    )
    role = ROLES.get(message[who].strip().casefold(), message[who])
    if calls_of(message):
        raise BadChat(
            "several_turns",
            f"the chat's {role} turn calls tools beside its text; a step `import` writes them into it with `calls: {{}}`",
        )
    text = _content(message[what], role)
    reasoning = message.get("reasoning_content") or message.get("reasoning") or message.get("thinking") or ""
    if role != "assistant" or not isinstance(reasoning, str) or not reasoning.strip():
        return role, text
    return role, fold_reasoning(text, reasoning, PromptSettings())


def _content(content: Any, role: str) -> str:
    """The text of a message's content, which may come in parts."""
    parts = content if isinstance(content, list) else ["" if content is None else content]
    found = [part.get("text") if isinstance(part, dict) else part for part in parts]
    texts = [text for text in found if isinstance(text, str)]
    if len(texts) < len(found):
        raise BadChat("no_text", f"the chat's {role} turn holds more than text")
    whole = "".join(texts)
    if not is_text(whole):
        raise BadChat("no_text", f"the chat's {role} turn holds half a surrogate pair, which is no text")
    return whole


def is_text(value: str) -> bool:
    """Whether it can be written as UTF-8; JSON can hold half a surrogate pair."""
    try:
        return value.isascii() or bool(value.encode())
    except UnicodeEncodeError:
        return False


def joined(thought: Any, answer: Any) -> Any:
    """A text with the thought that stands apart from it, in one; the answer itself where there is no thought, or where it is no
    text that one could be put before."""
    if not isinstance(thought, str) or not thought.strip() or not isinstance(answer, str):
        return answer
    return fold_reasoning(answer, thought, PromptSettings())
