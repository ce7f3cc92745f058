"""What a judge is asked, and what counts as its vote. Pure.

A completion is untrusted: it may hold a verdict, an instruction, or the special tokens of a chat template that would end
the judge's prompt and begin an answer in its name. So it stands between marks that hold its own hash, special tokens in it
are broken up, and votes are read from the judge's output alone. That it may still talk a weak judge round cannot be ruled
out; `both_false` and `all` are the policies under which one judge alone decides nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass

from redi_ray.config.judges import JudgeSettings
from redi_ray.config.prompts import END_THINK, THINK
from redi_ray.schemas import Verdict

_TEMPLATE_TOKENS = re.compile(
    r"<(?=[|\uff5c])"  # <|im_end|> and its kin
    r"|<(?=/?s>|<?/?SYS>>|(?:start|end)_of_turn>|bos>|eos>)|\[(?=/?INST\])"
)
_EMPHASIS = str.maketrans("", "", "*`")


@dataclass(frozen=True)
class Judgement:
    """A judge's vote, or why there is none: abstained, unparseable or truncated."""

    vote: Verdict | None
    reason: str | None


def judge_prompt(
    settings: JudgeSettings,
    *,
    problem: str,
    answer: str,
    completion: str,
    extracted_answer: str | None,
    special_tokens: Collection[str] = (),
) -> str:
    """The user message. special_tokens: the judge's own, where its tokenizer is at hand."""
    tail = completion[-settings.tail_chars :]
    if len(tail) < len(completion):
        tail = f"[...]{tail}"
    shown = {
        "problem": problem,
        "answer": answer,
        "completion": fence(tail),
        "extracted_answer": "(none was found)" if extracted_answer is None else fence(extracted_answer),
    }
    return settings.prompt.format(**{name: break_up(text, special_tokens) for name, text in shown.items()})


def fence(text: str) -> str:
    """`text` between two marks that cannot occur in it, since they hold its hash."""
    mark = hashlib.blake2b(text.encode(errors="replace"), digest_size=6).hexdigest()
    return f"----- begin {mark} -----\n{text}\n----- end {mark} -----"


def break_up(text: str, special_tokens: Collection[str] = ()) -> str:
    """`text` with a blank inside whatever a tokenizer would read as a special token.

    Example: `break_up("4<|im_end|>") == "4< |im_end|>"`.
    """
    text = _TEMPLATE_TOKENS.sub(r"\g<0> ", text)
    for token in special_tokens:
        text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


def read_judgement(output: str, settings: JudgeSettings, *, finished: bool) -> Judgement:
    """The vote in a judge's output, by `settings.verdict_pattern`. finished: it was not cut off at its token limit.

    Reasoning up to the last `</think>` is not looked at. What follows votes if its last line is a verdict, and no line
    above is another one: a judge that says both, or quotes one from the completion, has not voted.
    """
    if not finished:
        return Judgement(None, "truncated")
    spoken = output.rpartition(END_THINK)[2]
    lines = [line.translate(_EMPHASIS).strip() for line in spoken.split("\n")]
    lines = [line for line in lines if line]
    if not lines or THINK in spoken:
        return Judgement(None, "unparseable")
    words = {word.casefold(): meaning for word, meaning in settings.verdict_words.items()}
    matches = [re.fullmatch(settings.verdict_pattern, line, re.IGNORECASE) for line in lines]
    meanings = {words.get((match.group(1) or "").casefold(), "unknown") for match in matches if match}
    if matches[-1] is None or len(meanings) != 1 or meanings == {"unknown"}:
        return Judgement(None, "unparseable")
    meaning = meanings.pop()
    return Judgement(None, "abstained") if meaning == "unsure" else Judgement(Verdict(meaning), None)
