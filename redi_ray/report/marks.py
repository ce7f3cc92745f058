"""Texts in pieces, each with what is known of it: what its tokens weigh, or how a step of a solution was judged.

The page and the terminal draw the same pieces, each in its own way (`marked.html.j2`, `redi_ray.cli.marked`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

RIGHT, WRONG, NEUTRAL, UNSEEN = "right", "wrong", "neutral", "unseen"
JUDGED = (RIGHT, WRONG, NEUTRAL, UNSEEN)
"""What a step may be called; other labels are names of parts."""
UP, DOWN = "up", "down"
"""What training does with tokens of a positive weight, and of a negative one."""

BIDI = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
"""Characters that turn the direction of what stands behind them."""
UNSEEN_CHARACTERS: dict[int, int | str] = {
    **{code: code + 0x2400 for code in range(0x20) if chr(code) not in "\n\t"}, 0x7F: 0x2421,
    **dict.fromkeys([*range(0x80, 0xA0), *range(0xD800, 0xE000)], 0xFFFD),
    **{code: f"\u2039U+{code:04X}\u203a" for code in BIDI},
}  # fmt: skip
"""Control characters as symbols, lone surrogates as what stands for no character: what a model wrote must not move the reader's
cursor, colour the terminal, or be read in another order than it stands in."""


def visible(value: object) -> str:
    """Text with control characters made visible."""
    return str(value).translate(UNSEEN_CHARACTERS)


@dataclass(frozen=True)
class Piece:
    """A part of a text."""

    text: str
    value: float | None = None
    """A weight, negative where the tokens are pushed down; or what is known of a step. None: nothing."""
    label: str = ""
    located: bool = False
    """Whether it is the first wrong step."""

    @property
    def tone(self) -> str:
        """How it is drawn: as it was judged, or by the sign of its weight; empty for what is plain."""
        if self.label in JUDGED:
            return self.label
        if not self.value:
            return ""
        return UP if self.value > 0 else DOWN

    @property
    def strength(self) -> float:
        """How strongly, 0 to 1."""
        return 1.0 if self.value is None else min(1.0, abs(self.value))

    @property
    def known(self) -> str:
        """The value of a judged step, as it is shown beside it."""
        return f"{self.value:.2g}" if self.label in JUDGED and self.value is not None else ""

    @property
    def told(self) -> str:
        """Label and value, in words."""
        value = "" if self.value is None else f"{self.value:+.3g}" if self.label not in JUDGED else f"{self.value:.3g}"
        return " ".join(word for word in (("first" if self.located else ""), self.label, value) if word)


Told = tuple[str, list[Piece]]
"""A turn: its role and its pieces."""


def turns_in_pieces(
    turns: Sequence[Mapping[str, str]], spans: Sequence[Mapping[str, Any]] | None, side: int = 1
) -> list[Told]:
    """Turns cut at the borders of their spans, each {turn, start, end, value} and, in a column, a label.

    side: of the member that the spans weigh; -1 turns their sign. Spans that do not fit their text are cut to it: who looks at
    data wants to see them, whatever is wrong with them.
    """
    first = located(spans or ())
    told = []
    for number, turn in enumerate(turns):
        mine = [span for span in spans or () if span["turn"] == number]
        told.append((turn["role"], _cut(turn["content"], mine, side, first)))
    return told


def shown_turns(
    turns: Sequence[Mapping[str, str]], spans: Sequence[Mapping[str, Any]] | None, side: int, most: int | None
) -> list[Told]:
    """The same without the middles of what is longer than `most` characters."""
    told = turns_in_pieces(turns, spans, side)
    return told if most is None else [(role, without_middles(pieces, most)) for role, pieces in told]


def located(spans: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The first wrong step: called so, or the neutral one behind which nobody looked."""
    for at, span in enumerate(spans):
        behind = spans[at + 1].get("label") if at + 1 < len(spans) else UNSEEN
        if span.get("label") == WRONG or (span.get("label") == NEUTRAL and behind == UNSEEN):
            return span
    return None


def _cut(text: str, spans: Sequence[Mapping[str, Any]], side: int, first: Mapping[str, Any] | None) -> list[Piece]:
    pieces, reached = list[Piece](), 0
    for span in sorted(spans, key=lambda span: span["start"]):
        start, end = max(reached, span["start"]), min(len(text), span["end"])
        if start >= end:
            continue
        if start > reached:
            pieces.append(Piece(text[reached:start]))
        label, value = span.get("label") or "", span.get("value")
        signed = value if value is None or label else side * value
        pieces.append(Piece(text[start:end], signed, label, span is first))
        reached = end
    return [*pieces, Piece(text[reached:])] if reached < len(text) or not pieces else pieces


def by_values(texts: Sequence[str], values: Sequence[float]) -> list[Piece]:
    """Texts of tokens with a number each, those beside each other that have the same one put together."""
    pieces = list[Piece]()
    for text, value in zip(texts, values, strict=True):
        if pieces and pieces[-1].value == value:
            pieces[-1] = Piece(pieces[-1].text + text, value)
        else:
            pieces.append(Piece(text, value))
    return pieces


def without_middles(pieces: Sequence[Piece], most: int) -> list[Piece]:
    """The pieces, each of more than `most` characters without its middle. Among marked ones what is plain keeps its end alone."""
    plain = not any(piece.tone for piece in pieces)
    return [_short(piece, most, most // 3 if plain or piece.tone else 0) for piece in pieces]


def _short(piece: Piece, most: int, head: int) -> Piece:
    over = len(piece.text) - most
    if over <= 0:
        return piece
    note = f"\n\n[... {over:,} characters left out ...]\n\n"
    return replace(piece, text=f"{piece.text[:head]}{note}{piece.text[head + over :]}")
