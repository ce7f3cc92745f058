"""What a training has learnt from, token by token: the arrays that it read, as text with weights.

Of the arrays only the first groups are read, and of the tokenizer only `tokenizer.json`, so that this takes no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from redi_ray.errors import UserError
from redi_ray.modeling.tokenizer import is_folder, local_folder
from redi_ray.pipeline.graph import Step
from redi_ray.report.marks import Piece, by_values
from redi_ray.stages.arrays import read_first, read_range
from redi_ray.stages.run import folder_of
from redi_ray.store import storage
from redi_ray.store.manifests import current_manifest

STAGES = ("references", "sequences/pairs", "sequences/examples", "sequences/groups")
"""Where a training's arrays may lie, by their key."""
MOST_MEMBERS = 64
"""Sequences of a group that are looked for."""
MOST_TOKENS = 4000
"""Of a sequence that are shown; of a longer one its end."""


MOST_OF_A_CHARACTER = 4
"""Tokens that one character may be of: the bytes of UTF-8."""


class NothingTrained(UserError):
    """There are no arrays of such a training, or they cannot be shown; the message says why."""


@dataclass(frozen=True)
class Trained:
    """One sequence, as training reads it."""

    side: int
    tokens: int
    scored: int
    pieces: list[Piece]
    """By weight, times the side; what does not count is plain."""


def trained_groups(run: str, step: Step, limit: int) -> list[list[Trained]]:
    """The first groups of a finished training. Raises NothingTrained."""
    made = current_manifest(run, step.stage)
    key = made.inputs.get("sequences", "")
    places = [storage.join(run, folder_of(stage, step.name if step.own else ""), key, "arrays") for stage in STAGES]
    arrays = next((place for place in places if key and storage.exists(storage.join(place, "offsets.npy"))), None)
    if arrays is None:
        raise NothingTrained(f"{step.name}: the tokens that it was trained on are no longer in the run's folder")
    tokenizer = _tokenizer(made.facts["export"])
    groups = read_first(storage.join(arrays, "group.npy"), limit * MOST_MEMBERS)
    count = int(np.searchsorted(groups, min(limit, int(groups[-1]) + 1)))
    offsets = read_first(storage.join(arrays, "offsets.npy"), count + 1)
    sides = read_first(storage.join(arrays, "side.npy"), count)
    found: list[list[Trained]] = [[] for _ in range(int(groups[count - 1]) + 1)]
    for at in range(count):
        start, end = int(offsets[at]), int(offsets[at + 1])
        tokens, weights = (
            read_range(storage.join(arrays, f"{name}.npy"), start, end) for name in ("tokens", "weights")
        )
        texts = _texts(tokens[-MOST_TOKENS:].tolist(), tokenizer)
        values = (weights.astype(float) * int(sides[at]))[-MOST_TOKENS:].tolist()
        scored = int(np.count_nonzero(weights))
        found[int(groups[at])].append(Trained(int(sides[at]), end - start, scored, by_values(texts, values)))
    return found


@lru_cache(maxsize=4)
def _tokenizer(export: str) -> Any:
    from tokenizers import Tokenizer

    place = f"{local_folder(export)}/tokenizer.json" if is_folder(export) else ""
    try:
        return Tokenizer.from_file(place)
    except Exception as error:  # what the library raises has no class of its own
        raise NothingTrained(f"{export}: tokens cannot be shown without a tokenizer.json ({error})") from error


def _texts(tokens: Sequence[int], tokenizer: Any) -> list[str]:
    """The text of each token, behind the one before it: some tokenizers begin a text with a space that is not there. Of a
    character that is cut in two the last token has it."""
    found, before, open_ = list[str](), list[int](), list[int]()
    for number, token in enumerate(tokens):
        open_.append(token)
        both = tokenizer.decode([*before, *open_], skip_special_tokens=False)
        if both.endswith("\ufffd") and len(open_) < MOST_OF_A_CHARACTER and number + 1 < len(tokens):
            found.append("")
            continue
        found.append(both[len(tokenizer.decode(before, skip_special_tokens=False)) :])
        before, open_ = open_, []
    return found
