"""Pieces of text on the terminal: weights and judged steps in colour, in brackets where there is none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from redi_ray.report.marks import DOWN, JUDGED, NEUTRAL, RIGHT, UNSEEN, UP, WRONG, Piece, Told, visible
from redi_ray.text.templates import ASSISTANT

STYLES = {
    UP: "green", DOWN: "red", RIGHT: "green", WRONG: "bold white on red", NEUTRAL: "black on yellow", UNSEEN: "dim",
}  # fmt: skip
STRONG = 0.67
"""Weights from here on are bold, those below half of it dim."""
SIDES = {1: ("chosen", "bold green"), -1: ("rejected", "bold red")}
MARK = "\u25b6 "
"""Before the first wrong step."""


def in_colour(pieces: Iterable[Piece], console: Console) -> Text:
    """The pieces as one text. A step begins a line of its own, with what was said of it; a weight is told by its colour."""
    plain = console.color_system is None
    text = Text()
    for piece in pieces:
        said, style = visible(piece.text), _style(piece)
        if piece.label in JUDGED:
            if text.plain and not text.plain.endswith("\n"):
                text.append("\n")
            text.append(f"{MARK if piece.located else '  '}{piece.told:<14} ", "bold" if piece.located else "dim")
            text.append(said, style)
        elif piece.tone and plain:
            text.append(f"[{piece.told}: {said}]")
        else:
            text.append(said, style)
    return text


def _style(piece: Piece) -> str:
    style = STYLES.get(piece.tone, "")
    if piece.label in JUDGED or not style:
        return style
    return f"bold {style}" if piece.strength >= STRONG else style if piece.strength >= STRONG / 2 else f"dim {style}"


def print_turns(told: Sequence[Told], console: Console) -> None:
    """A chat, each turn behind its role."""
    for role, pieces in told:
        console.print(_turn(role, pieces, console), soft_wrap=True)


def _turn(role: str, pieces: Sequence[Piece], console: Console) -> Text:
    head = Text().append(f"{visible(role)}: " if role else "", "bold cyan" if role == ASSISTANT else "bold")
    shown = in_colour(pieces, console)
    return head.append("\n" if "\n" in shown.plain and role else "").append_text(shown)


def print_sides(sides: Sequence[tuple[int, str, Sequence[Told]]], console: Console) -> None:
    """Answers, (side, what else is known, turns) each; on a terminal two of them beside each other."""
    if len(sides) == 2 and console.is_terminal:
        table = Table.grid(padding=(0, 2), expand=True)
        for _ in sides:
            table.add_column(ratio=1, overflow="fold")
        table.add_row(*(Text.assemble(SIDES[side], (f"  {more}", "dim")) for side, more, _ in sides))
        answers = [[_turn(role, pieces, console) for role, pieces in told] for *_, told in sides]
        table.add_row(*(Group(*answer) for answer in answers))
        console.print(table)
        return
    for side, more, told in sides:
        console.print(Text(f"answer {side:+d}{', ' if more else ''}{more}:", "bold"), soft_wrap=True)
        print_turns(told, console)
