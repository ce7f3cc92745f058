"""One row as it is shown: what is known of it, and its texts, turn by turn, in pieces with a colour and a word on each.

Colours are classes, `up1` (weak blue) to `up8` and `down1` to `down8` (red), so that a page needs no style for each token.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from redi_ray.report.beside import is_spans
from redi_ray.report.browse import details
from redi_ray.report.marks import JUDGED, Piece, shown_turns, visible
from redi_ray.schemas import turns_of
from redi_ray.text.dialogue import spoken
from redi_ray.text.templates import ASSISTANT

LEVELS = 8
"""Shades of a colour."""
MOST_CHARS, MOST_WHOLE = 6_000, 400_000
"""Of each piece of text that is shown at first, and where all of it is asked for; there is more as plain text only."""
MOST_MEMBERS = 24
"""Answers of a group that are shown."""
MOST_TOKENS = 4_000
"""Of an answer that are coloured; of a longer one its end."""
NICE = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
"""Ends of a scale."""
FACTS = ("source", "model", "finish_reason", "num_tokens", "what", "reason", "detail", "where")
MESSAGES = ("prompt", "messages")
CLOSING = "\u23ce"
"""Stands for the token that closes a turn."""


@dataclass(frozen=True)
class Bit:
    """A piece of a text."""

    text: str
    css: str = ""
    """How it is drawn; empty for what is plain."""
    told: str = ""
    """What is known of it."""


@dataclass(frozen=True)
class Turn:
    """A turn of a chat."""

    role: str
    bits: Sequence[Bit]

    @property
    def own(self) -> bool:
        """Whether it is the model's."""
        return self.role == ASSISTANT


@dataclass(frozen=True)
class Part:
    """An answer, or what else of a row is text."""

    title: str
    turns: Sequence[Turn]
    side: int = 0
    """+1 and -1 of what is learnt from; 0 of what has no side."""
    facts: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    """Of the plain text that it can be had as; empty for none."""
    cut: bool = False
    """Whether something of it is left out."""
    marked: str = ""
    """`steps` where steps are judged in it, `weights` where parts of it weigh something."""


@dataclass(frozen=True)
class RowView:
    """A row as it is shown."""

    facts: Mapping[str, str]
    asked: Sequence[Turn]
    """The problem, or the chat that the answers go on from."""
    parts: Sequence[Part]


@dataclass(frozen=True)
class Scale:
    """Numbers -> colours."""

    end: float
    """From here on a colour is at its strongest."""
    faint: float = 0.0
    """Below this share of the end there is no colour."""

    @classmethod
    def of(
        cls, values: Sequence[float], *, at_least: float = 0.0, at_most: float = math.inf, faint: float = 0.0
    ) -> Scale:
        """A scale that the largest of these numbers fits into, its end a round number."""
        largest = min(at_most, max([abs(value) for value in values] + [at_least]))
        return cls(next((end for end in NICE if end >= largest), largest), faint)

    def css(self, value: float | None) -> str:
        if not value or abs(value) <= self.faint * self.end:
            return ""
        return f"{'up' if value > 0 else 'down'}{min(LEVELS, math.ceil(LEVELS * abs(value) / self.end))}"


def asked_of(row: Mapping[str, Any]) -> list[dict[str, str]]:
    """The chat that a row's answers go on from."""
    if row.get("prompt"):
        return list(row["prompt"])
    if row.get("messages"):
        return list(row["messages"][:-1])
    return [{"role": "user", "content": spoken(row["problem"])}] if row.get("problem") is not None else []


def answers_of(row: Mapping[str, Any]) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
    """(name, side, member) of everything that a row's model has said; members as in `redi_ray.schemas.GROUP`."""
    if row.get("members") is not None:
        for number, member in enumerate(row["members"][:MOST_MEMBERS]):
            yield f"member {number + 1}", member["side"] or 0, member
    elif "chosen" in row:
        yield "chosen", 1, {"turns": row["chosen"] or [], "finished": row.get("chosen_finished")}
        yield "rejected", -1, {"turns": row["rejected"] or [], "finished": row.get("rejected_finished")}
    elif row.get("messages"):
        yield "answer", 1, {"turns": row["messages"][-1:], "finished": row.get("finished")}
    elif row.get("completion") is not None or row.get("turns"):
        yield "completion", 0, {"turns": turns_of(row)}


def texts_of(row: Mapping[str, Any]) -> dict[str, str]:
    """Name -> all of a text of a row, for who wants it as it is."""
    texts = {name: value for name, value in row.items() if isinstance(value, str) and name in ("problem", "raw")}
    chats = {name: member["turns"] for name, _, member in answers_of(row)}
    if row.get("prompt"):
        chats["prompt"] = row["prompt"]
    for name, turns in chats.items():
        several = len(turns) > 1
        texts[name] = "\n\n".join(
            f"[{turn['role']}]\n{turn['content']}" if several else turn["content"] for turn in turns
        )
    return texts


def view_of(row: Mapping[str, Any], columns: Mapping[str, Any], *, whole: bool = False) -> RowView:
    """A row without the numbers of its tokens. columns: what steps say of it, by name."""
    most = MOST_WHOLE if whole else MOST_CHARS
    parts = []
    spans = {name: said for name, said in columns.items() if is_spans(said)}
    for name, side, member in answers_of(row):
        marks = {"weights": member["spans"]} if member.get("spans") else spans if side == 0 and spans else {"": None}
        for title, said in marks.items():
            told = shown_turns(member["turns"], said, side or 1, most)
            cut = any(len(turn["content"]) > most for turn in member["turns"])
            judged = any(piece.label in JUDGED for _, pieces in told for piece in pieces)
            turns = [Turn(role, [_bit(piece) for piece in pieces]) for role, pieces in told]
            marked = ("steps" if judged else "weights") if said else ""
            parts.append(Part(f"{name}: {title}" if title else name, turns, side, _facts_of(member), name, cut, marked))
    if row.get("raw") is not None:
        cut = len(row["raw"]) > most
        parts.append(Part("the row as it came", chat([{"role": "", "content": row["raw"]}], most), name="raw", cut=cut))
    return RowView(facts_of(row, columns), chat(asked_of(row), most), parts)


def chat(turns: Sequence[Mapping[str, str]], most: int) -> list[Turn]:
    """Turns without marks."""
    return [Turn(role, [_bit(piece) for piece in pieces]) for role, pieces in shown_turns(turns, None, 1, most)]


def facts_of(row: Mapping[str, Any], columns: Mapping[str, Any]) -> dict[str, str]:
    """What is known of a row, in words."""
    found = dict[str, str]()
    for name, column in (("gold answer", "answer"), ("extracted", "extracted_answer")):
        if column in row:
            found[name] = "-" if row[column] is None else str(row[column])
    found |= details(dict(row))
    known = {"source", "model", "finish_reason", "num_tokens"} if "completion" in row else set[str]()
    found |= {name: str(row[name]) for name in FACTS if row.get(name) is not None and name not in known}
    if row.get("members") and len(row["members"]) > MOST_MEMBERS:
        found["members"] = f"{len(row['members'])}, of which {MOST_MEMBERS} are shown"
    for name, said in columns.items():
        if not isinstance(said, list):
            found[f"column {name}"] = "-" if said is None else f"{said:.6g}" if isinstance(said, float) else str(said)
    return {name: without_middle(value) for name, value in found.items()}


def without_middle(text: str, most: int = 1000) -> str:
    """A short text, made visible."""
    return visible(text if len(text) <= most else f"{text[: most // 2]} […] {text[-most // 2 :]}")


def _facts_of(member: Mapping[str, Any]) -> dict[str, str]:
    found = dict[str, str]()
    if member.get("reward") is not None:
        found["reward"] = f"{member['reward']:g}"
    if member.get("finished") is False:
        found["finished"] = "no, it was cut off"
    return found


def _bit(piece: Piece) -> Bit:
    if not piece.tone:
        return Bit(visible(piece.text))
    if piece.label in JUDGED:
        return Bit(visible(piece.text), f"{piece.tone}{' located' if piece.located else ''}", visible(piece.told))
    return Bit(visible(piece.text), Scale(1.0).css(piece.value), visible(piece.told))


def token_turns(
    turns: Sequence[Mapping[str, str]],
    places: Sequence[tuple[int, int, int]],
    values: Sequence[float | None],
    told: Sequence[str],
    scale: Scale,
) -> tuple[list[Turn], int]:
    """Turns with a bit for each of the model's own tokens, and how many of the first are left out.

    places: `[turn, start, end]` of each; values and told: what colours it, and what is said of it.
    """
    over = max(0, len(places) - MOST_TOKENS)
    found = dict[int, list[Bit]]()
    reached = {} if not over else {places[over][0]: max(0, places[over][1])}
    for number in range(over, len(places)):
        turn, start, end = places[number]
        text, bits, at = turns[turn]["content"], found.setdefault(turn, []), reached.get(turn, 0)
        css = f"token {scale.css(values[number])}".rstrip()
        if start < 0:
            bits.append(Bit(CLOSING, css, told[number]))
            continue
        if start > at:
            bits.append(Bit(visible(text[at:start])))
        if end > at:
            bits.append(Bit(visible(text[max(at, start) : end]), css, told[number]))
        else:  # one more token of a character
            bits[-1:] = [replace(bits[-1], told=f"{bits[-1].told} | {told[number]}")] if bits else []
        reached[turn] = max(at, end)
    shown = []
    for number, said in enumerate(turns):
        if number in found:
            shown.append(Turn(said["role"], found[number]))
        elif not over or number > places[over][0]:
            shown.append(Turn(said["role"], [Bit(without_middle(said["content"], MOST_CHARS))]))
    return shown, over
