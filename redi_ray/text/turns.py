"""A member of a group, which may have several turns, as one sequence of token ids.

Turn by turn, as it was sampled: the prompt; the model's own tokens and the one that closes its turn; what the chat template
writes from there to the model's next turn, with what a tool or a user said as plain text, in which nothing is control; its own
tokens again. So every token of the model's own stands behind exactly what the model saw when it wrote it.

Scored are the model's own tokens and those that close its turns; not the headers of its turns, which the template writes, and
nothing that a tool or a user said.

Where the template is regular this is the template's rendering of the whole chat, token for token. Where it is not (Qwen3's and
DeepSeek-R1's drop the thoughts of earlier turns from the whole), what the model saw wins, and the thoughts stay.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from redi_ray.config.prompts import PromptSettings
from redi_ray.text.prompts import render_prompt
from redi_ray.text.templates import (
    ASSISTANT,
    ENDINGS,
    TOOL,
    USER,
    Message,
    PromptError,
    begun,
    closing_id,
    control_pattern,
    name_of,
    require_role,
)
from redi_ray.text.templates import turn as turn_by_template
from redi_ray.text.thoughts import last_thought
from redi_ray.text.tokens import Encoded, OwnTurn, completion_ids, framed_ids, plain_ids, prompt_ids

ROLES = (ASSISTANT, TOOL, USER)
"""Of turns behind the prompt."""


def encode_turns(
    messages: Sequence[Message],
    turns: Sequence[Message],
    tokenizer: Any,
    settings: PromptSettings,
    *,
    finished: bool = True,
) -> Encoded:
    """One training sequence of the turns that follow the prompt `messages`; a single turn gives `encode`'s.

    Every turn of the model's own begins with the forced prefix and is closed; the last one is not where it is the end and not
    `finished`. Context before its first turn is part of the prompt. Context behind its last turn is left out: nothing that is
    scored sees it. Raises ValueError for turns that cannot be encoded, RoleError where the template has no such turns.
    """
    own = [at for at, turn in enumerate(turns) if turn["role"] == ASSISTANT]
    if other := sorted({str(turn["role"]) for turn in turns} - set(ROLES)):
        raise ValueError(f"a turn of the role {', '.join(other)}; turns behind a prompt are of {', '.join(ROLES)}")
    if not own:
        raise ValueError("no turn is the model's own: none has the role assistant")
    for role in {turn["role"] for turn in turns[: own[-1]]} - {ASSISTANT}:
        require_role(role, tokenizer, settings)
    chat = [*messages, *turns]
    ids = prompt_ids(chat[: len(messages) + own[0]], tokenizer, settings)
    prompt_length, found = len(ids), []
    for place, number in enumerate(own):
        start, last = len(ids), place + 1 == len(own)
        closed = finished or number + 1 < len(turns)
        ids += completion_ids(turns[number]["content"], tokenizer, settings, finished=False)
        behind: list[int] = []
        closing = closing_id(tokenizer)
        if not last:
            until = len(messages) + own[place + 1]
            closing, behind = _between(chat[:until], len(messages) + number, tokenizer, settings)
        ids += [closing] if closed else []
        found.append(OwnTurn(number, start, len(ids), closed))
        ids += behind
    return Encoded(ids, prompt_length, tuple(found))


def opened_ids(
    messages: Sequence[Message], turns: Sequence[Message], tokenizer: Any, settings: PromptSettings
) -> list[int]:
    """What the model sees before it goes on behind `turns`: the ids that stand before its next turn in `encode_turns`, so that
    what was sampled from them is trained behind them, token for token. Raises as `encode_turns` does."""
    going_on = {"role": ASSISTANT, "content": settings.prefix}
    found = encode_turns(messages, [*turns, going_on], tokenizer, settings, finished=False)
    return found.input_ids[: found.own[-1].start]


def require_turns(tokenizer: Any, settings: PromptSettings) -> None:
    """Raise a UserError unless the template can write what a turn of a tool says between answers, again and again; a chat
    is tried. Where the template cuts earlier answers in a whole chat, the model still sees them here: see above."""
    require_role(TOOL, tokenizer, settings)
    chat = [{"role": ASSISTANT, "content": f"{settings.prefix}7"}, {"role": TOOL, "content": "7"}]
    opened_ids([{"role": USER, "content": "7"}], chat * 3, tokenizer, settings)


def _between(chat: list[Message], own: int, tokenizer: Any, settings: PromptSettings) -> tuple[int, list[int]]:
    """The token that closes the turn `chat[own]`, and the ids of what the template writes from there to the end of `chat`,
    where the model goes on.

    Of turns behind an answer some templates close the answer with another token than at the end of a chat.
    """
    marks = {f"Qmarker{at}Q7": message["content"].strip() for at, message in enumerate(chat) if at > own}
    marks = {mark: said for mark, said in marks.items() if said}
    answers = {at: f"Amarker{at}A7" for at in range(own + 1) if chat[at]["role"] == ASSISTANT}
    plain = [{**m, "content": answers.get(at, m["content"])} for at, m in enumerate(chat)]
    hidden = [dict(message) for message in plain]
    for mark, said in marks.items():
        message = hidden[int(mark[len("Qmarker") : -2])]
        message["content"] = message["content"].replace(said, mark)
    frame = _behind(render_prompt(hidden, tokenizer, settings), answers[own], tokenizer)
    if left_out := [mark for mark in marks if mark not in frame]:
        role = chat[int(left_out[0][len("Qmarker") : -2])]["role"]
        raise PromptError(f"the chat template of {name_of(tokenizer)} leaves out what a turn of the role `{role}` says")
    if not settings.prefix:
        _require_same_beginning(frame, marks, tokenizer, settings)
    control = control_pattern(tokenizer)
    if control is None or not any(control.search(said) for said in marks.values()):
        marks, frame = {}, _behind(render_prompt(plain, tokenizer, settings), answers[own], tokenizer)
    if control is None:
        return closing_id(tokenizer), plain_ids(frame, tokenizer)
    closing = tokenizer.convert_ids_to_tokens(closing_id(tokenizer))
    first = control.search(frame)
    regular = first is not None and (first.group() == closing or first.group() in ENDINGS)
    ids = framed_ids(frame[first.start() :] if regular and first else closing + frame, marks, control, tokenizer)
    return ids[0], ids[1:]


def _require_same_beginning(frame: str, marks: Mapping[str, str], tokenizer: Any, settings: PromptSettings) -> None:
    """Raise PromptError where the template opens a thought before one turn of the model's and not before another."""
    tail = re.split("|".join(marks), frame)[-1] if marks else frame
    first, here = turn_by_template(tokenizer, settings).thought, last_thought(tail)
    ways = [None if thought is None else (thought.opening, thought.open) for thought in (first, here)]
    if ways[0] != ways[1]:
        raise PromptError(
            f"the chat template of {name_of(tokenizer)} begins the model's turn with {begun(tokenizer, settings)!r} behind the "
            f"prompt, and not behind a later turn ({tail!r}): set `prompt.prefix` to that, so that every turn begins with it, or "
            "`prompt.tool_role` to user"
        )


def _behind(text: str, answer: str, tokenizer: Any) -> str:
    """What the template has written behind an answer."""
    _, found, behind = text.rpartition(answer)
    if not found:
        raise PromptError(f"the chat template of {name_of(tokenizer)} leaves out an earlier answer")
    return behind
