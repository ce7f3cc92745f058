"""Token sequences as flat arrays: what the trainer reads, on disk or in memory.

A store of a million sequences is a handful of arrays that are memory-mapped, so every rank opens the whole of it for
nothing and reads just the tokens of its packs.

    records  group 0: chosen [5 6 7], rejected [5 8]      tokens     5 6 7 5 8      offsets 0 3 5
             (prompt length 1)                            weights    0 1 1 0 1      group   0 0      side 1 -1
                                                          prompt_lengths 1 1
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from redi_ray.config.training import TrainSettings
from redi_ray.errors import UserError

ARRAYS = {
    "tokens": np.int32,
    "weights": np.uint8,
    "offsets": np.int64,
    "group": np.int64,
    "side": np.int8,
    "prompt_lengths": np.int32,
    "ref_logps": np.float32,
}
"""Every array of a store with its type; `ref_logps` is optional. `weights` are bytes where all are 0 or 1, else float32."""


def smallest_weights(weights: np.ndarray) -> np.ndarray:
    """`weights[T]` as they are stored: a byte each where all are 0 or 1, float32 otherwise."""
    is_mask = bool(((weights == 0) | (weights == 1)).all())
    return weights.astype(np.uint8 if is_mask else np.float32)


@dataclass(frozen=True)
class SequenceRecord:
    """One sequence. A group, the unit of a batch, has one (an example) or two (a pair) of them."""

    group: int
    """0 .. number of groups - 1, dense."""
    side: int
    """+1 chosen or positive, -1 rejected or negative."""
    input_ids: Sequence[int]
    """Prompt and completion, with the end-of-turn token if there is one."""
    prompt_length: int
    """Tokens of the prompt; none of them is scored."""
    weights: Sequence[float] | None = None
    """What each token of `input_ids` counts, 0 where it is not scored; None scores the whole completion with weight 1."""
    ref_logps: Sequence[float] | None = None
    """Reference log-prob of each token of `input_ids` (anything where it is not scored)."""


class SequenceStore:
    """Sequences in flat arrays (see the module's docstring)."""

    def __init__(
        self,
        *,
        tokens: np.ndarray,
        weights: np.ndarray,
        offsets: np.ndarray,
        group: np.ndarray,
        side: np.ndarray,
        prompt_lengths: np.ndarray,
        ref_logps: np.ndarray | None = None,
        mismatched: SequenceStore | None = None,
    ) -> None:
        """`mismatched`: sequence k there is the prompt of sequence k here with a completion of another group
        (`redi_ray.train.mismatched`). Raises ValueError where the two do not belong together."""
        self.tokens, self.weights, self.offsets, self.prompt_lengths = tokens, weights, offsets, prompt_lengths
        self.group, self.side, self.ref_logps, self.mismatched = group, side, ref_logps, mismatched
        assert len(offsets) == len(group) + 1 == len(side) + 1, (len(offsets), len(group), len(side))
        if mismatched is not None and not np.array_equal(mismatched.group, group):
            raise ValueError("the mismatched sequences were made of other sequences: their groups differ")
        assert len(tokens) == len(weights) == offsets[-1], (len(tokens), len(weights), int(offsets[-1]))
        self._order = np.argsort(group, kind="stable")  # sequences of a group beside each other
        self._starts = np.searchsorted(group[self._order], np.arange(self.num_groups + 1))

    @classmethod
    def from_records(cls, records: Iterable[SequenceRecord]) -> SequenceStore:
        """Lay out records in order. Raises ValueError, naming the record, where one cannot be trained on."""
        rows = list(records)
        if not rows:
            raise ValueError("no sequences to train on")
        with_reference = rows[0].ref_logps is not None
        found = []
        for i, row in enumerate(rows):
            size = len(row.input_ids)
            weights = np.zeros(size, dtype=np.float32)
            weights[row.prompt_length :] = 1 if row.weights is None else np.asarray(row.weights)[row.prompt_length :]
            weights[:1] = 0  # nothing predicts the first token
            if row.side not in (1, -1):
                raise ValueError(f"sequence {i} (group {row.group}): side must be +1 or -1, got {row.side}")
            if not weights.any():
                raise ValueError(f"sequence {i} (group {row.group}): no token of its {size} is scored")
            if not np.isfinite(weights).all():
                raise ValueError(f"sequence {i} (group {row.group}): a weight is not a finite number")
            if (row.ref_logps is not None) != with_reference or (with_reference and len(row.ref_logps or ()) != size):
                raise ValueError(f"sequence {i} (group {row.group}): needs one reference log-prob per token, like all")
            found.append(smallest_weights(weights))
        group = np.array([row.group for row in rows], dtype=np.int64)
        if len(np.unique(group)) != group.max() + 1 or group.min() < 0:
            raise ValueError("groups must be numbered 0, 1, 2 ... without gaps")
        return cls(
            tokens=np.concatenate([np.asarray(row.input_ids, dtype=np.int32) for row in rows]),
            weights=np.concatenate(found),
            offsets=np.concatenate([[0], np.cumsum([len(row.input_ids) for row in rows])]).astype(np.int64),
            group=group,
            side=np.array([row.side for row in rows], dtype=np.int8),
            prompt_lengths=np.array([row.prompt_length for row in rows], dtype=np.int32),
            ref_logps=np.concatenate([np.asarray(row.ref_logps, dtype=np.float32) for row in rows])
            if with_reference
            else None,
        )

    def __len__(self) -> int:
        return len(self.group)

    @property
    def num_groups(self) -> int:
        return int(self.group.max()) + 1 if len(self.group) else 0

    @cached_property
    def lengths(self) -> np.ndarray:
        """`[n]` tokens of each sequence, prompt included."""
        return np.diff(self.offsets)

    @cached_property
    def scored(self) -> np.ndarray:
        """`[n]` scored tokens of each sequence: the |y| of every length-normalised objective."""
        return np.add.reduceat(self.weights != 0, self.offsets[:-1], dtype=np.int64)

    def span(self, sequence: int) -> slice:
        """Where the sequence lies in the flat arrays."""
        return slice(int(self.offsets[sequence]), int(self.offsets[sequence + 1]))

    def sequences_of_group(self, group: int) -> list[int]:
        return self._order[self._starts[group] : self._starts[group + 1]].tolist()

    def ref_sum(self, sequence: int) -> float:
        """Summed reference log-prob of the sequence's scored tokens (nats)."""
        assert self.ref_logps is not None, "the store has no reference log-probs"
        span = self.span(sequence)
        return float(self.ref_logps[span].astype(np.float64) @ self.weights[span])

    def select(self, keep: np.ndarray, lengths: np.ndarray) -> SequenceStore:
        """The sequences `keep[m]`, each cut to its new length `lengths[m]`, groups renumbered in order.

        Mismatched sequences are left out: see `fit_lengths`.
        """
        index = np.concatenate([np.arange(o, o + n) for o, n in zip(self.offsets[keep], lengths, strict=True)])
        return SequenceStore(
            tokens=self.tokens[index],
            weights=self.weights[index],
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            group=np.unique(self.group[keep], return_inverse=True)[1].astype(np.int64),
            side=self.side[keep],
            prompt_lengths=np.minimum(self.prompt_lengths[keep], lengths).astype(np.int32),
            ref_logps=None if self.ref_logps is None else self.ref_logps[index],
        )

    def with_mismatched(self, mismatched: SequenceStore | None) -> SequenceStore:
        """The same arrays beside these mismatched sequences."""
        return SequenceStore(**{name: getattr(self, name) for name in ARRAYS}, mismatched=mismatched)

    def save(self, folder: str | Path) -> None:
        """Write one `.npy` file per array. Mismatched sequences are a store of their own, saved apart."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, dtype in ARRAYS.items():
            array = getattr(self, name)
            if array is not None:
                stored = smallest_weights(array) if name == "weights" else np.asarray(array, dtype=dtype)
                np.save(Path(folder) / f"{name}.npy", stored)

    @classmethod
    def load(cls, folder: str | Path, mmap: bool = True, mismatched: str | Path | None = None) -> SequenceStore:
        """Open what `save` wrote, without reading it if `mmap`; `mismatched` is the folder of its mismatched sequences.

        Raises FileNotFoundError where an array is not there.
        """
        arrays = {
            name: np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
            for name in ARRAYS
            if (path := Path(folder) / f"{name}.npy").exists() or name != "ref_logps"
        }
        return cls(**arrays, mismatched=None if mismatched is None else cls.load(mismatched, mmap))


def require_vocabulary(store: SequenceStore, rows: int) -> None:
    """Raise UserError unless every token of the store, and of its mismatched sequences, is one of the model's `rows`."""
    for tokens in [store.tokens] + ([store.mismatched.tokens] if store.mismatched is not None else []):
        low, high = (int(tokens.min()), int(tokens.max())) if len(tokens) else (0, 0)
        if low < 0 or high >= rows:
            raise UserError(
                f"the sequences hold token {high if high >= rows else low}, but the model's embedding has {rows} rows: they "
                "were made with a tokenizer that is larger than the model. Mend: the model's own tokenizer, or an embedding "
                "that is resized to it"
            )


def fit_lengths(
    store: SequenceStore, settings: TrainSettings, positions: int | None = None
) -> tuple[SequenceStore, dict[str, int]]:
    """Apply `max_length`, or how far the model's `positions` reach where that is less, by `on_too_long`.

    Returns the store (the same one if everything fits) and counts: `too_long` sequences, `truncated` sequences,
    `dropped_groups`. A group goes as a whole: half a pair is no pair. One whose truncation leaves a side without a scored
    token is dropped too. Raises ValueError for `error`, and if nothing is left.

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
        keep, lengths = groups_that_fit(store, too_long, settings)
        counts["dropped_groups"] = store.num_groups - len(np.unique(store.group[keep]))
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


def groups_that_fit(
    store: SequenceStore, too_long: np.ndarray, settings: TrainSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Sequences of the groups that stay, and the lengths `[n]` they are cut to. Raises ValueError if none stays."""
    lengths = np.minimum(store.lengths, settings.max_length)
    bad = too_long
    if settings.on_too_long == "truncate":
        bad = np.zeros_like(too_long)
        for i in np.flatnonzero(too_long):
            bad[i] = not store.weights[store.offsets[i] : store.offsets[i] + lengths[i]].any()
    keep = np.flatnonzero(~np.isin(store.group, np.unique(store.group[bad])))
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
