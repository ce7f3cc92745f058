"""What a scorer is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from redi_ray.config.answers import VerifySettings
from redi_ray.config.data import Source
from redi_ray.config.prompts import PromptSettings
from redi_ray.schemas import SCORE


@dataclass(frozen=True)
class Asked:
    """What a scorer may ask beside its settings."""

    prompt: PromptSettings
    """The student's."""
    tokenizer: str | None = None
    """The base model's folder, where the settings need it."""
    trust_remote_code: bool = False
    work: str = ""
    """A folder for what is prepared once."""
    verify: VerifySettings | None = None
    """How answers are read and compared."""
    source: Source | None = None
    """Where the problems come from."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """What the settings call a column of the same samples -> its folder."""
    judged: tuple[str, ...] = ()
    """Shards of verified traces that were made of the samples."""


Values = Callable[[pa.Table], list[dict[str, Any]]]
"""Rows of samples, with what each of `Asked.columns` says of them under its name -> as many rows of the column, without the
key."""


def _nothing(settings: Any, asked: Asked) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Scorer:
    """A way to say something about samples."""

    reads: tuple[str, ...]
    """Columns of the samples."""
    start: Callable[[Any, Asked], Values]
    """Of its settings, in every task."""
    prepare: Callable[[Any, Asked], dict[str, Any]] = _nothing
    """Done once, in a task of its own, before any shard; what is to be said of it in the manifest."""
    outside: Callable[[Any], Any] = lambda settings: None
    """What of the world outside decides the values, for the key."""
    look: Callable[[Any, str], None] = lambda settings, where: None
    """Before anything starts: raise DataError where what it reads of the user's files is not there, or is of no use. where: the
    settings' place in the config."""
    schema: Callable[[Any], pa.Schema] = lambda settings: SCORE
