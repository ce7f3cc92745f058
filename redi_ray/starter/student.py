"""The model that a first config names: how long its sequences may be, and how many tokens the data's texts are to it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

from redi_ray.starter.head import StartError

DEFAULT = "Qwen/Qwen2.5-0.5B-Instruct"
"""Small enough for two cores and any GPU, knows chats, tools and some arithmetic; Apache-2.0."""
SCRATCH = "scratch"
"""In place of a path: random weights and a tokenizer that is learnt from the data. Nothing is downloaded."""
SCRATCH_LENGTH = 1024
BYTES_PER_TOKEN = 3.0
"""Of most tokenizers, in most languages, rather too few."""
SHORTEST, LONGEST = 256, 32768


@dataclass(frozen=True)
class Student:
    """What is known of it without loading it."""

    path: str
    positions: int | None = None
    """Longest sequence; None where only the hub knows."""
    bytes_per_token: float = BYTES_PER_TOKEN

    def tokens(self, size: int) -> int:
        """Of a text of so many bytes, about."""
        return math.ceil(size / self.bytes_per_token)

    def room(self, tokens: int) -> int:
        """A limit for sequences of so many tokens, which leaves room for longer ones, and does not pass the positions' end."""
        wanted = max(SHORTEST, 2 ** math.ceil(math.log2(max(1, 1.5 * tokens))))
        return min(wanted, self.positions or LONGEST)


def student_of(path: str | None, texts: Sequence[str]) -> Student:
    """What can be seen of a model's folder; the hub is not asked. texts: of the data. Raises StartError for a folder without a
    model."""
    if path == SCRATCH:
        return Student(SCRATCH, SCRATCH_LENGTH)
    path = path or DEFAULT
    folder = os.path.abspath(os.path.expanduser(path))
    if not os.path.isdir(folder):
        if path.startswith((".", "/", "~")):
            raise StartError(f"--model {path}: there is no such folder")
        return Student(path)
    config = os.path.join(folder, "config.json")
    if not os.path.isfile(config):
        raise StartError(f"--model {path} holds no config.json; it must be a Hugging Face model folder")
    with open(config, encoding="utf-8") as file:
        told = json.load(file)
    told = told.get("text_config") or told
    return Student(folder, told.get("max_position_embeddings"), _bytes_per_token(folder, texts))


def _bytes_per_token(folder: str, texts: Sequence[str]) -> float:
    """By the model's own tokenizer, where it lies there as one file."""
    file = os.path.join(folder, "tokenizer.json")
    text = "\n".join(texts[:50])[:100_000]
    if not text or not os.path.isfile(file):
        return BYTES_PER_TOKEN
    from tokenizers import Tokenizer

    return len(text.encode()) / max(1, len(Tokenizer.from_file(file).encode(text, add_special_tokens=False)))
