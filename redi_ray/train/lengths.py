"""Whether the model has the sequences' tokens, and what becomes of sequences that are too long."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from redi_ray.config.objectives import Objective
from redi_ray.config.training import TrainSettings
from redi_ray.errors import UserError
from redi_ray.objectives import OBJECTIVES
from redi_ray.train.sequences import PIECE, SequenceStore, count_scored, piece


def require_vocabulary(store: SequenceStore, rows: int) -> None:
    """Raise UserError unless every token of the store, and of its mismatched sequences, is one of the model's `rows`."""
    for tokens in [store.tokens] + ([store.mismatched.tokens] if store.mismatched is not None else []):
        low = high = 0
        for start in range(0, len(tokens), PIECE):
            part = piece(tokens, start, start + PIECE)
            low, high = min(low, int(part.min())), max(high, int(part.max()))
        if low < 0 or high >= rows:
            raise UserError(
                f"the sequences hold token {high if high >= rows else low}, but the model's embedding has {rows} rows: they "
                "were made with a tokenizer that is larger than the model. Mend: the model's own tokenizer, or an embedding "
                "that is resized to it"
            )


def fit_lengths(
    store: SequenceStore, settings: TrainSettings, positions: int | None = None, objective: Objective | None = None
) -> tuple[SequenceStore, dict[str, int]]:
    """Apply `max_length`, or how far the model's `positions` reach where that is less, by `on_too_long`.

    Returns the store (the same one if everything fits) and counts: `too_long` sequences, `truncated` sequences,
    `dropped_groups`. A group goes as a whole: half a pair is no pair. Of one whose sequences the objective reads paired or not,
    those that are too long go alone (`dropped_members`), unless a single one would be left to be compared with none. What
    truncation leaves without a scored token is dropped too. Raises ValueError for `error`, and if nothing is left.

    A mismatched sequence goes with its group, and is cut whatever the setting (`truncated_mismatched`): its prompt and its
    completion were never meant for each other, so its length says nothing about the data, and it is not trained on.
    """
    limit = "max_length"
    if positions is not None and positions < settings.max_length:
        settings, limit = replace(settings, max_length=positions), "max_position_embeddings"
    too_long = store.lengths > settings.max_length
    counts = {"too_long": int(too_long.sum()), "truncated": 0, "dropped_groups": 0}
    kept, keep = store, np.arange(len(store))
    if too_long.any():
        if settings.on_too_long == "error":
            raise ValueError(too_long_message(store, too_long, limit, settings.max_length))
        keep, lengths = sequences_that_fit(store, too_long, settings, objective)
        whole = np.unique(store.group[keep])
        counts["dropped_groups"] = store.num_groups - len(whole)
        if members := int(np.isin(store.group, whole).sum()) - len(keep):
            counts["dropped_members"] = members
        counts["truncated"] = int(too_long[keep].sum())
        kept = store.select(keep, lengths[keep])
    if store.mismatched is None:
        return kept, counts
    longest = store.mismatched.lengths[keep]
    counts["truncated_mismatched"] = int((longest > settings.max_length).sum())
    if kept is store and not counts["truncated_mismatched"]:
        return store, counts
    cut = store.mismatched.select(keep, np.minimum(longest, settings.max_length))
    return kept.with_mismatched(cut), counts


def sequences_that_fit(
    store: SequenceStore, too_long: np.ndarray, settings: TrainSettings, objective: Objective | None
) -> tuple[np.ndarray, np.ndarray]:
    """Sequences that stay, and the lengths `[n]` they are cut to. Raises ValueError if none stays."""
    lengths = np.minimum(store.lengths, settings.max_length)
    bad = too_long
    if settings.on_too_long == "truncate":
        bad = too_long.copy()
        bad[too_long] = count_scored(store.weights, store.starts[too_long], lengths[too_long]) == 0
    gone = np.unique(store.group[bad])
    if objective is not None and OBJECTIVES[objective.name].sides == "any":
        left = np.bincount(store.group[~bad], minlength=store.num_groups)
        least = 2 if OBJECTIVES[objective.name].compares_rewards(objective) else 1
        gone = gone[left[gone] < least]
        keep = np.flatnonzero(~bad & ~np.isin(store.group, gone))
    else:
        keep = np.flatnonzero(~np.isin(store.group, gone))
    if not len(keep):
        raise ValueError(f"no group is left: all have a sequence longer than max_length = {settings.max_length}")
    return keep, lengths


def too_long_message(store: SequenceStore, too_long: np.ndarray, limit: str, tokens: int) -> str:
    """What is over which limit, and the ways out."""
    first = int(np.flatnonzero(too_long)[0])
    settings = {"max_length": "on_too_long to drop or truncate", "tokens_per_pack": "on_oversized to own_pack"}
    settings["max_position_embeddings"] = settings["max_length"]
    return (
        f"{int(too_long.sum())} of {len(store)} sequences are longer than {limit} = {tokens} (the first: sequence {first} "
        f"of group {store.group[first]}, {store.lengths[first]} tokens); raise {limit}, filter by length when curating, "
        f"or set {settings[limit]}"
    )
