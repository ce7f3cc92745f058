"""The code blocks of README and site, and the commands in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "docs/**/*.md",
    "configs/recipes/*.md",
    "*/README.md",
    "tests/faults/README.md",
)
SHELL = frozenset({"sh", "bash", "shell", "console"})
PROGRAMS = ("redi-ray", "make", "python", "pip", "docker", "ray", "kubectl")
"""What a line of a block without a language begins with where the block is commands."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    """Of its first line of text, from 1."""
    language: str
    """What stands behind the fence; empty where nothing does."""
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def is_shell(self) -> bool:
        return self.language in SHELL or (not self.language and self.text.startswith(PROGRAMS))


@dataclass(frozen=True)
class Command:
    """A line that a reader may type."""

    place: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return shlex.join(self.words)


def pages() -> list[Path]:
    """Every page that people write; those that are made from the code show what the code has."""
    return sorted({path for pattern in PAGES for path in ROOT.glob(pattern)})


def blocks() -> list[Block]:
    """The blocks of all pages, in order."""
    return [block for path in pages() for block in blocks_of(path.read_text(), str(path.relative_to(ROOT)))]


def blocks_of(text: str, page: str) -> Iterator[Block]:
    """Those of one page. A fence may be indented, as in a list."""
    for found in re.finditer(r"^( *)```([\w-]*)[^\n]*\n(.*?)^\1```\s*$", text, re.DOTALL | re.MULTILINE):
        inside = "".join(line.removeprefix(found[1]) for line in found[3].splitlines(keepends=True))
        yield Block(page, text.count("\n", 0, found.start(3)) + 1, found[2], inside)


def commands(block: Block) -> Iterator[Command]:
    """The commands of a shell block: without comments, prompts and what a `>` sends elsewhere. A line that ends with a
    backslash goes on; beside lines with a prompt (`$ `) all others are output."""
    lines = block.text.replace("\\\n", " ").splitlines()
    prompted = any(line.startswith("$ ") for line in lines)
    for line in lines:
        if prompted and not line.startswith("$ "):
            continue
        words = shlex.split(line.removeprefix("$ ").partition(" > ")[0], comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words.pop(0)
        if words:
            yield Command(block.place, tuple(words))
