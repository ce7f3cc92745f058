"""Calls of tools in what a model says: where a turn's call is, what stops the model there, and whether a trace of turns is whole.

A call is a text between two marks, such as a block fenced by ```python. The turn ends with it: what a model writes behind its
call it has written without the output, so it is cut away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from redi_ray.text.templates import ASSISTANT, TOOL, USER

Marks = Mapping[str, tuple[str, str]]
"""Tool -> what a call of it begins and ends with."""


@dataclass(frozen=True)
class Call:
    """A call of a tool."""

    tool: str
    text: str
    """Between the marks: code, or an expression."""
    end: int
    """Behind its closing mark, in the turn's text."""


def first_call(text: str, marks: Marks, begin: int = 0) -> Call | None:
    """The first call that is closed, from the character `begin` on.

    Example: `first_call("so <calculator>6*7</calculator>", {"calculator": ("<calculator>", "</calculator>")}).text == "6*7"`.
    """
    found = []
    for tool, (opening, closing) in marks.items():
        start = text.find(opening, begin)
        stop = text.find(closing, start + len(opening)) if start >= 0 else -1
        if stop >= 0:
            end = stop + len(closing)
            found.append((end, start, Call(tool, text[start + len(opening) : stop], end)))
    return min(found, key=lambda place: place[:2])[2] if found else None


def stops(marks: Marks) -> list[str]:
    """Texts at which the model is stopped: the closing marks. One that an opening mark may stand for, as a fence's does, stops
    nothing: such a call is looked for when the turn has ended, and the model is stopped where it makes up the output."""
    found = []
    for _, closing in marks.values():
        fence = closing.strip()
        opens = any(opening.strip().startswith(fence) for opening, _ in marks.values())
        found.append(f"{fence}output" if opens else closing)
    return list(dict.fromkeys(found))


@dataclass(frozen=True)
class TurnRules:
    """Which traces of several turns may be learnt from."""

    least_calls: int = 1
    most_turns: int | None = None
    error_words: tuple[str, ...] = ("error",)


def fault_of_turns(turns: Sequence[Mapping[str, str]], rules: TurnRules) -> str | None:
    """Why a trace of turns (behind the prompt) may not be learnt from, or None. The first that holds of:

    `no_turns`; `ends_with_output` (of a tool or a user); `turn_without_call`, one that is not the last and that no output follows
    alone; `too_few_calls`; `too_many_turns`; `error_in_output`, a word of `rules.error_words` in the last output, in any case.
    """
    own = [at for at, turn in enumerate(turns) if turn["role"] == ASSISTANT]
    if not own:
        return "no_turns"
    if own[-1] != len(turns) - 1:
        return "ends_with_output"
    if own != list(range(0, len(turns), 2)) or any(turn["role"] not in (TOOL, USER) for turn in turns[1::2]):
        return "turn_without_call"
    if len(own) - 1 < rules.least_calls:
        return "too_few_calls"
    if rules.most_turns is not None and len(own) > rules.most_turns:
        return "too_many_turns"
    last = turns[-2]["content"].lower() if len(turns) > 1 else ""
    return "error_in_output" if any(word.lower() in last for word in rules.error_words) else None
