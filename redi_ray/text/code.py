"""The code of a solution in a text: fenced blocks behind the thinking, and which of them counts."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Collection
from dataclasses import dataclass

from redi_ray.text.thoughts import in_parts, without_tags

VERSION = ".0123456789"
"""What may stand behind a language's name: `python3.11`."""
_FENCE = re.compile(r"([ \t]*)(`{3,}|~{3,})[ \t]*([^\s`{]*)[^`\n]*")


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    language: str
    """Its mark in small letters; empty where it has none."""
    text: str
    closed: bool = True


def blocks_of(text: str) -> list[Block]:
    """The fenced blocks of a text, in order, without the indentation of their fences; the last may not be closed."""
    found: list[Block] = []
    opened: re.Match[str] | None = None
    lines: list[str] = []
    for line in text.replace("\r\n", "\n").split("\n"):
        if opened is None:
            if (fence := _FENCE.fullmatch(line)) is not None:
                opened, lines = fence, []
        elif _closes(line, opened[2]):
            found.append(_block(opened, lines))
            opened = None
        else:
            lines.append(line)
    return [*found, _block(opened, lines, closed=False)] if opened is not None else found


def _closes(line: str, fence: str) -> bool:
    bare = line.strip()
    return len(bare) >= len(fence) and set(bare) == {fence[0]}


def _block(fence: re.Match[str], lines: list[str], closed: bool = True) -> Block:
    text = "\n".join(line.removeprefix(fence[1]) for line in lines)
    return Block(fence[3].lower(), textwrap.dedent(text) if fence[1] else text, closed)


def extract_code(completion: str, languages: Collection[str], *, finished: bool = True) -> str | None:
    """The solution in a completion: its last block marked as one of `languages`, or without any such the last without a mark.

    Only what follows the thinking counts. finished: False where the completion was cut off: a block without an end is none then.

    Example: `extract_code("<think>so</think>\\n```python\\nprint(1)\\n```", ["python"]) == "print(1)"`.
    """
    first, newline, rest = in_parts(completion)[1].partition("\n")
    blocks = [block for block in blocks_of(without_tags(first) + newline + rest) if block.text.strip()]
    blocks = [block for block in blocks if block.closed or finished]
    marked = [block for block in blocks if {block.language, block.language.rstrip(VERSION)} & {*languages}]
    found = marked or [block for block in blocks if not block.language]
    return found[-1].text if found else None
