"""What a chat template does, found out by rendering it: how it opens the assistant's turn, closes it, and what is control.

Every rendering goes through `render`, which stops the template's clock at the date of the settings: a prompt must be the
same on the day of training and on that of evaluation.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import re
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

from redi_ray.config.prompts import PromptSettings
from redi_ray.errors import UserError
from redi_ray.text.thoughts import THOUGHTS, Thought, last_thought, opening_tag

Message = dict[str, str]
ASSISTANT, TOOL, USER = "assistant", "tool", "user"
"""Roles of the turns behind a prompt: the model's own, what a tool gave back, what a user said."""

ASKED, ANSWERED = "QmarkerQ7", "AmarkerA7"
"""Stand for a user's text and an answer, to see what a template writes around them."""
TAGS = {tag for pair in THOUGHTS for tag in pair}
ENDINGS = (
    "<|im_end|>", "<|endoftext|>", "</s>", "<end_of_turn>", "<|eot_id|>", "<|end_of_text|>", "<|end|>", "<eos>",
    "<\uff5cend\u2581of\u2581sentence\uff5c>", "<|eot|>", "<|eom_id|>", "<|return|>", "<|EOT|>", "<|end_of_turn|>",
    "<|endofturn|>", "<|END_OF_TURN_TOKEN|>", "<|eos|>",
)  # fmt: skip
"""Texts of end-of-turn and end-of-document tokens, whose traces may come to a student that has others."""


class PromptError(UserError):
    """The model's chat template cannot make the prompts that the settings ask for; the message says why and what to do."""


class RoleError(UserError):
    """The model's chat template has no turns of a role that the data have; the message says how to do without."""


@dataclass(frozen=True)
class Turn:
    """The assistant's turn, as a template begins it."""

    tail: str
    """What stands between the user's text and the first generated token, before any forced prefix."""
    thought: Thought | None
    """The thought that the template opens or closes there."""


def render(messages: list[Message], tokenizer: Any, settings: PromptSettings, *, opened: bool = True) -> str:
    """The chat as text; `opened`: with the beginning of an answer. Raises PromptError if the template refuses it.

    What a tool said has the role that the settings give it.
    """
    if any(message["role"] == TOOL for message in messages):
        messages = [m if m["role"] != TOOL else {**m, "role": settings.tool_role} for m in messages]
    told = {"strftime_now": partial(_strftime, str(settings.date)), **settings.template_args}
    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=opened, **told)
    except Exception as error:  # whatever a template raises is the template's
        hint = "; if it needs a system message, set `prompt.system`"
        if any(message["role"] == "system" for message in messages):
            hint = (
                "; if it takes no system message, set `prompt.system` to null and write its text into `prompt.template`"
            )
        raise PromptError(f"the chat template of {name_of(tokenizer)} refuses a chat: {error}{hint}") from error


def _strftime(date: str, form: str) -> str:
    return datetime.datetime.fromisoformat(date).strftime(form)


def name_of(tokenizer: Any) -> str:
    """What to call a tokenizer in a message."""
    return getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__


def turn(tokenizer: Any, settings: PromptSettings) -> Turn:
    """How the template begins the answer. Raises PromptError if it leaves out the problem or the system message."""
    return _turn(
        tokenizer, _template(tokenizer), settings.system, str(settings.date), json.dumps(settings.template_args)
    )


@lru_cache(maxsize=32)
def _turn(tokenizer: Any, template: str, system: str | None, date: str, args: str) -> Turn:
    settings = PromptSettings(system=system, date=date, template_args=json.loads(args))
    messages = [{"role": "user", "content": ASKED}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    text = render(messages, tokenizer, settings)
    if any(text != render(messages, tokenizer, settings) for _ in range(8)):
        raise PromptError(f"the chat template of {name_of(tokenizer)} renders one chat in several ways: it uses chance")
    if ASKED not in text:
        raise PromptError(f"the chat template of {name_of(tokenizer)} leaves out what the user says; it wrote {text!r}")
    if system and system.strip() and text == render(messages[1:], tokenizer, settings):
        raise PromptError(
            f"the chat template of {name_of(tokenizer)} leaves out the system message: set `prompt.system` to null and write "
            "its text into `prompt.template`"
        )
    tail = text.rpartition(ASKED)[2]
    return Turn(tail, last_thought(tail))


def _template(tokenizer: Any) -> str:
    return json.dumps(tokenizer.chat_template, sort_keys=True)


def turn_of(text: str, messages: list[Message], tokenizer: Any, settings: PromptSettings) -> Turn:
    """The same for `text`, the rendered `messages`: some templates look at what is said."""
    found = turn(tokenizer, settings)
    if text.endswith(found.tail):
        return found
    said = (message["content"].strip() for message in reversed(messages))
    last = next(filter(None, said), "")  # a tool may say nothing
    tail = text.rpartition(last)[2] if last else text
    return Turn(tail, last_thought(tail))


def require_role(role: str, tokenizer: Any, settings: PromptSettings) -> None:
    """Raise RoleError unless the template writes what a turn of this role says, behind an answer."""
    _require_role(
        role,
        tokenizer,
        _template(tokenizer),
        settings.tool_role,
        str(settings.date),
        json.dumps(settings.template_args),
    )


@lru_cache(maxsize=32)
def _require_role(role: str, tokenizer: Any, template: str, tool_role: Any, date: str, args: str) -> None:
    settings = PromptSettings(tool_role=tool_role, date=date, template_args=json.loads(args))
    said = "TmarkerT7"
    chat = [{"role": USER, "content": ASKED}, {"role": ASSISTANT, "content": ANSWERED}, {"role": role, "content": said}]
    try:
        if said in render(chat, tokenizer, settings).rpartition(ANSWERED)[2]:
            return
        why = "leaves out what it says"
    except PromptError as error:
        why = f"refuses it ({error.__cause__})"
    way = (
        "set `prompt.tool_role` to user, which writes it as what a user says"
        if role == TOOL and tool_role != USER
        else ""
    )
    raise RoleError(
        f"the chat template of {name_of(tokenizer)} has no turn of the role `{role}` behind an answer: it {why}. Mend: "
        + (way or "another chat template, or data of one turn")
    )


def uses_clock(tokenizer: Any, settings: PromptSettings) -> bool:
    """Whether the template writes the date."""
    return turn_text(tokenizer, settings) != turn_text(tokenizer, replace(settings, date="2001-02-03"))


def turn_text(tokenizer: Any, settings: PromptSettings) -> str:
    """A chat of one question, rendered."""
    return render([{"role": "user", "content": ASKED}], tokenizer, settings)


def forced_text(found: Turn, tokenizer: Any, settings: PromptSettings) -> str:
    """What is written behind the template's own text, so that the answer begins with `settings.prefix` once.

    Of a prefix that the template has written already only the white space that is lacking is added; nothing of the
    template is taken away. Raises PromptError where a thought would be opened behind one that is closed.
    """
    prefix = settings.prefix
    if not prefix or found.tail.endswith(prefix):
        return ""
    bare = prefix.strip()
    if bare and found.tail.rstrip().endswith(bare):
        return _lacking(found.tail[len(found.tail.rstrip()) :], prefix[len(prefix.rstrip()) :])
    opening, thought = opening_tag(prefix), found.thought
    if opening is None or thought is None:
        return prefix
    if thought.open and thought.opening == opening:  # and the template, or the prefix, goes on behind the tag
        return _lacking(thought.written[len(opening) :], prefix.lstrip()[len(opening) :])
    does = f"opens {thought.opening!r}" if thought.open else f"closes a thought before the answer ({thought.written!r})"
    raise PromptError(
        f"the chat template of {name_of(tokenizer)} {does}, and prompt.prefix {prefix!r} would open another: set "
        '`prompt.prefix` to what the template leaves open ("" if nothing), or have the template think by '
        "`prompt.template_args`, such as {enable_thinking: true} or {thinking: true}"
    )


def _lacking(written: str, wanted: str) -> str:
    """The rest of `wanted` where `written` is its beginning; else what of it is no white space at its start."""
    return wanted[len(written) :] if wanted.startswith(written) else wanted.lstrip() if not written.strip() else ""


def begun(tokenizer: Any, settings: PromptSettings) -> str:
    """What the prompt holds of the answer: the forced prefix, or the thought that the template has opened or closed."""
    if settings.prefix:
        return settings.prefix
    thought = turn(tokenizer, settings).thought
    return thought.written if thought is not None else ""


def sample_chat(tokenizer: Any) -> str:
    """A chat with its answer and the beginning of one, rendered: shows what the template's text alone does not, such as the
    tokenizer's special tokens in it. "" where it cannot be rendered."""
    chat = [{"role": "user", "content": ASKED}, {"role": "assistant", "content": ANSWERED}]
    try:
        return render(chat, tokenizer, PromptSettings(), opened=False) + render(chat[:1], tokenizer, PromptSettings())
    except PromptError:
        return ""


def template_fingerprint(tokenizer: Any) -> str:
    """SHA-256 of the template and of what it makes of a chat."""
    told = json.dumps([tokenizer.chat_template, sample_chat(tokenizer)], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


def closing_id(tokenizer: Any) -> int:
    """The token that closes an answer: the first control token that the template writes behind one.

    The tokenizer's own `eos_token` often ends a document instead (Gemma, Phi-3, Qwen2.5's base models). It is taken where
    the template closes an answer with plain text, or cannot be asked.
    """
    return _closing_id(tokenizer, _template(tokenizer), tokenizer.eos_token_id)


@lru_cache(maxsize=32)
def _closing_id(tokenizer: Any, template: str, eos: int) -> int:
    messages = [{"role": "user", "content": ASKED}, {"role": "assistant", "content": ANSWERED}]
    try:
        text = render(messages, tokenizer, PromptSettings(), opened=False)
    except PromptError:
        return eos
    _, found, behind = text.rpartition(ANSWERED)
    ids = tokenizer(behind, add_special_tokens=False)["input_ids"] if found else []
    known = control_ids(tokenizer) - ({tokenizer.bos_token_id, tokenizer.unk_token_id} - {eos})
    return next((token for token in ids if token in known), eos)


def control_ids(tokenizer: Any) -> frozenset[int]:
    """Ids of the tokens that are no text: the special ones, and added ones that the template writes around a message.

    Tags of thoughts are text, whatever the vocabulary has them as.
    """
    return frozenset(_control_tokens(tokenizer, _template(tokenizer)))


def control_pattern(tokenizer: Any) -> re.Pattern[str] | None:
    """Finds control tokens in a text; None where the vocabulary has none."""
    return _control_pattern(tokenizer, _template(tokenizer))


@lru_cache(maxsize=32)
def _control_tokens(tokenizer: Any, template: str) -> dict[int, str]:
    added = {index: token for index, token in tokenizer.added_tokens_decoder.items() if token.content.strip()}
    frame, named = sample_chat(tokenizer), set(tokenizer.all_special_ids)
    return {
        index: token.content
        for index, token in added.items()
        if token.content not in TAGS
        and (token.special or index in named or token.content in frame or token.content in ENDINGS)
    }


@lru_cache(maxsize=32)
def _control_pattern(tokenizer: Any, template: str) -> re.Pattern[str] | None:
    texts = sorted(_control_tokens(tokenizer, template).values(), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, texts))) if texts else None


def without_ending(completion: str, tokenizer: Any) -> str:
    """A completion without the end-of-turn text, or the texts, that it may end with: the token itself is added."""
    own = (tokenizer.eos_token, tokenizer.pad_token, tokenizer.convert_ids_to_tokens(closing_id(tokenizer)))
    endings = tuple({*ENDINGS, *(text for text in own if text and text.strip())} - TAGS)
    while (bare := completion.rstrip()).endswith(endings):
        ending = max((text for text in endings if bare.endswith(text)), key=len)
        completion = bare[: -len(ending)]
    return completion
