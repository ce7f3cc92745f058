"""Problems that are the last question of a dialogue. Such a problem's text is the dialogue itself, as JSON: user, assistant, ...,
user. Whatever asks a model (`redi_ray.text.prompts.to_messages`) reads it back; all others show it as lines of speech.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import cycle

from redi_ray.text.templates import Message

BEGINS = '[{"role": "user", "content": "'


def as_problem(turns: Sequence[Message]) -> str:
    """The problem that these turns ask: a text where there is one turn. Raises ValueError unless questions and answers alternate,
    from a question to a question."""
    if not _takes_turns(turns):
        raise ValueError("a dialogue begins and ends with a user's turn, with an answer between each two of them")
    if len(turns) == 1:
        return turns[0]["content"]
    return json.dumps([{"role": turn["role"], "content": turn["content"]} for turn in turns], ensure_ascii=False)


def dialogue_of(problem: str) -> list[Message]:
    """The turns of a problem, one for a plain text, as `as_problem` got them."""
    alone = [{"role": "user", "content": problem}]
    if not problem.startswith(BEGINS):
        return alone
    try:
        found = json.loads(problem)
    except (ValueError, RecursionError):
        return alone
    return found if len(found) > 1 and _takes_turns(found) else alone


def spoken(problem: str) -> str:
    """The problem for readers: a dialogue's turns below each other, a plain text as it is."""
    turns = dialogue_of(problem)
    if len(turns) == 1:
        return problem
    return "\n\n".join(f"{turn['role'].capitalize()}: {turn['content']}" for turn in turns)


def as_lines(turns: Sequence[Message]) -> str:
    """What was said, a line for each turn, as judges of dialogues are asked about it."""
    return "\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)


def _takes_turns(turns: Sequence[Message]) -> bool:
    roles = [turn.get("role") if isinstance(turn, dict) else None for turn in turns]
    texts = all(isinstance(turn, dict) and isinstance(turn.get("content"), str) for turn in turns)
    return (
        texts and len(turns) % 2 == 1 and all(one == other for one, other in zip(roles, cycle(["user", "assistant"])))
    )
