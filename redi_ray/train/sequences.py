"""Token sequences as flat arrays: what the trainer reads, on disk or in memory.

A store of a million sequences is a handful of arrays that are memory-mapped, so every rank opens the whole of it for
nothing and reads just the tokens of its packs. Choosing and cutting sequences (`select`) moves their borders only.

    records  group 0: chosen [5 6 7], rejected [5 8]      tokens     5 6 7 5 8      offsets 0 3 5
             (prompt length 1)                            weights    0 1 1 0 1      group   0 0      side 1 -1
                                                          prompt_lengths 1 1

A unit is what has one score: the sequence, or one of several segments of it. Then `unit` says for every scored token which
of its sequence's units it counts to, and `unit_offsets` how many each sequence has; `reward` has one number per unit. A
column has one number per token: the reference's log-prob (`ref_logps`), or whatever else an objective reads by its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from mmap import mmap
from pathlib import Path
from typing import Any

import numpy as np

from redi_ray.modeling.soft_columns import is_soft
from redi_ray.train.records import SequenceRecord, lay_out, smallest_weights
from redi_ray.train.tails import Tails

ARRAYS = {
    "tokens": np.int32,
    "weights": np.uint8,
    "offsets": np.int64,
    "group": np.int64,
    "side": np.int8,
    "prompt_lengths": np.int32,
}
"""Every array that a store has on disk, with its type. `weights` are bytes where all are 0 or 1, else float32."""

OPTIONAL_ARRAYS = {"reward": np.float32, "unit": np.int16, "unit_offsets": np.int64}
"""Those that only some have."""

COLUMNS = "columns"
"""Folder of the token columns, `<name>.npy` each; the reference's log-probs lie beside the arrays."""

REFERENCE = "ref_logps"
"""The column of reference log-probs."""


PIECE = 1 << 24
"""Tokens that are looked at at a time where all of them are."""


def piece(array: np.ndarray, start: int, stop: int) -> np.ndarray:
    """`array[start:stop]`; of a mapped file by a mapping of its own, so that what was read of it does not stay."""
    stop = min(stop, len(array))
    if not isinstance(array, np.memmap) or not isinstance(array.base, mmap) or start >= stop:
        return array[start:stop]
    place = array.offset + start * array.itemsize
    return np.asarray(np.memmap(array.filename, array.dtype, "r", place, (stop - start,)))


def count_scored(weights: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Of `weights[T]`, those that are not 0 in each of the spans `starts[m]`, `lengths[m]` -> `[m]`."""
    found = np.zeros(len(starts), dtype=np.int64)
    first, part = 0, weights[:0]
    for i, (start, end) in enumerate(zip(starts.tolist(), (starts + lengths).tolist(), strict=True)):
        if start < first or end > first + len(part):
            first, part = start, piece(weights, start, max(end, start + PIECE))
        found[i] = np.count_nonzero(part[start - first : end - first])
    return found


@dataclass(frozen=True, eq=False, kw_only=True)
class SequenceStore:
    """n sequences in flat arrays of T tokens (see the module's docstring)."""

    tokens: np.ndarray
    """`[T]`"""
    weights: np.ndarray
    """`[T]` what a token's log-prob counts in its unit's score; it is scored where that is not 0."""
    starts: np.ndarray
    """`[n]` where each sequence begins in the arrays of tokens."""
    lengths: np.ndarray
    """`[n]` tokens of each sequence, prompt included."""
    group: np.ndarray
    """`[n]`"""
    side: np.ndarray
    """`[n]` +1 or -1."""
    prompt_lengths: np.ndarray
    """`[n]`"""
    unit: np.ndarray | None = None
    """`[T]` which unit of its sequence each scored token counts to; None where every sequence is one unit."""
    unit_offsets: np.ndarray | None = None
    """`[n + 1]` where each sequence's units begin among all, beside `unit`."""
    reward: np.ndarray | None = None
    """`[units]`"""
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    """`[T]` each, by name: numbers, or records of a teacher's distributions (`redi_ray.modeling.soft_columns`)."""
    mismatched: SequenceStore | None = None
    """Sequence k there is the prompt of sequence k here with a completion of another group
    (`redi_ray.train.mismatched`)."""

    def __post_init__(self) -> None:
        """Raises ValueError where the mismatched sequences do not belong to these, or arrays do not fit each other."""
        if self.mismatched is not None and not np.array_equal(self.mismatched.group, self.group):
            raise ValueError("the mismatched sequences were made of other sequences: their groups differ")
        by_token = {"weights": self.weights, "unit": self.unit, **self.columns}
        units = len(self) if self.unit_offsets is None else int(self.unit_offsets[-1])
        if (self.unit is None) != (self.unit_offsets is None):
            raise ValueError("the sequences need both `unit` and `unit_offsets`, or neither")
        wrong = [name for name, array in by_token.items() if array is not None and len(array) != len(self.tokens)]
        wrong += ["reward"] if self.reward is not None and len(self.reward) != units else []
        wrong += ["unit_offsets"] if self.unit_offsets is not None and len(self.unit_offsets) != len(self) + 1 else []
        if wrong:
            raise ValueError(
                f"the sequences' {', '.join(wrong)} have another size than their {len(self.tokens)} tokens and {units} units"
            )
        assert len(self.starts) == len(self.lengths) == len(self.side) == len(self), "one of each per sequence"

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, np.ndarray], columns: Mapping[str, np.ndarray] | None = None
    ) -> SequenceStore:
        """Sequences that lie end to end, their arrays by the names that they have on disk."""
        rest: dict[str, Any] = {name: array for name, array in arrays.items() if name != "offsets"}
        offsets = arrays["offsets"]
        assert len(arrays["tokens"]) == offsets[-1], (len(arrays["tokens"]), int(offsets[-1]))
        return cls(**rest, starts=np.asarray(offsets[:-1]), lengths=np.diff(offsets), columns=dict(columns or {}))

    @classmethod
    def from_records(cls, records: Iterable[SequenceRecord]) -> SequenceStore:
        """Lay out records in order. Raises ValueError, naming the record, where one cannot be trained on."""
        return cls.from_arrays(*lay_out(list(records)))

    def __len__(self) -> int:
        return len(self.group)

    @property
    def num_groups(self) -> int:
        return int(self.group.max()) + 1 if len(self.group) else 0

    @property
    def ref_logps(self) -> np.ndarray | None:
        """`[T]` the column of reference log-probs, if there is one."""
        return self.columns.get(REFERENCE)

    @cached_property
    def scored(self) -> np.ndarray:
        """`[n]` scored tokens of each sequence: the |y| of every length-normalised objective."""
        return count_scored(self.weights, self.starts, self.lengths)

    @cached_property
    def _by_group(self) -> tuple[np.ndarray, np.ndarray]:
        """Sequences of a group beside each other, and where each group begins."""
        order = np.argsort(self.group, kind="stable")
        return order, np.searchsorted(self.group[order], np.arange(self.num_groups + 1))

    def span(self, sequence: int) -> slice:
        """Where the sequence lies in the arrays of tokens."""
        start = int(self.starts[sequence])
        return slice(start, start + int(self.lengths[sequence]))

    def sequences_of_group(self, group: int) -> list[int]:
        order, starts = self._by_group
        return order[starts[group] : starts[group + 1]].tolist()

    def weights_of(self, sequence: int, tails: Tails | None = None) -> np.ndarray:
        """`[tokens of the sequence]`, those of its tail times its factor."""
        weights = self.weights[self.span(sequence)]
        return weights if tails is None else tails.weighed(sequence, weights)

    def units(self, sequence: int) -> slice:
        """Where the sequence's units lie among all, as in `reward`."""
        if self.unit_offsets is None:
            return slice(sequence, sequence + 1)
        return slice(int(self.unit_offsets[sequence]), int(self.unit_offsets[sequence + 1]))

    def unit_lengths(self, sequence: int) -> np.ndarray:
        """`[units of the sequence]` scored tokens of each; 0 where all of it has been cut off."""
        if self.unit is None:
            return self.scored[sequence : sequence + 1]
        span, units = self.span(sequence), self.units(sequence)
        return np.bincount(self.unit[span][self.weights[span] != 0], minlength=units.stop - units.start)

    def ref_sums(self, sequence: int, tails: Tails | None = None) -> np.ndarray:
        """`[units of the sequence]` weighted sums of the reference's log-probs over the scored tokens (nats)."""
        return self.column_sums(sequence, REFERENCE, tails)

    def column_sums(self, sequence: int, name: str | None, tails: Tails | None = None) -> np.ndarray:
        """`[units of the sequence]` weighted sums of a column over the scored tokens; of None those of the weights themselves."""
        assert name is None or name in self.columns, f"the store has no column {name}"
        span, units, weights = self.span(sequence), self.units(sequence), self.weights_of(sequence, tails)
        values = np.ones(len(weights)) if name is None else self.columns[name][span].astype(np.float64)
        if self.unit is None:
            return np.array([values @ weights])
        scored = weights != 0
        weighted = values[scored] * weights[scored]
        return np.bincount(self.unit[span][scored], weights=weighted, minlength=units.stop - units.start)

    def select(self, keep: np.ndarray, lengths: np.ndarray) -> SequenceStore:
        """The sequences `keep[m]`, each cut to its new length `lengths[m]`, groups renumbered in order.

        The arrays of tokens stay what they are. Mismatched sequences are left out: see `redi_ray.train.lengths`.
        """
        reward, unit_offsets = self.reward, self.unit_offsets
        if reward is not None and unit_offsets is None:
            reward = reward[keep]
        if unit_offsets is not None:
            counts = np.diff(unit_offsets)[keep]
            first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
            index = np.repeat(unit_offsets[:-1][keep] - first[:-1], counts) + np.arange(first[-1])
            reward, unit_offsets = None if reward is None else reward[index], first
        return replace(
            self,
            starts=self.starts[keep],
            lengths=np.asarray(lengths, dtype=np.int64),
            group=np.unique(self.group[keep], return_inverse=True)[1].astype(np.int64),
            side=self.side[keep],
            prompt_lengths=np.minimum(self.prompt_lengths[keep], lengths).astype(np.int32),
            reward=reward,
            unit_offsets=unit_offsets,
            mismatched=None,
        )

    def with_mismatched(self, mismatched: SequenceStore | None) -> SequenceStore:
        """The same arrays beside these mismatched sequences."""
        return replace(self, mismatched=mismatched)

    def with_column(self, name: str, values: np.ndarray) -> SequenceStore:
        """The same arrays beside this column `[T]`, in place of one of its name."""
        return replace(self, columns={**self.columns, name: values})

    def save(self, folder: str | Path) -> None:
        """Write one `.npy` file per array. Mismatched sequences are a store of their own, saved apart."""
        offsets = np.concatenate([[0], np.cumsum(self.lengths)])
        whole = np.array_equal(offsets[:-1], self.starts) and offsets[-1] == len(self.tokens)
        assert whole, "a choice of sequences is not saved: its arrays are those of the whole"
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, dtype in (ARRAYS | OPTIONAL_ARRAYS).items():
            array = offsets if name == "offsets" else getattr(self, name)
            if array is not None:
                stored = smallest_weights(array) if name == "weights" else np.asarray(array, dtype=dtype)
                np.save(Path(folder) / f"{name}.npy", stored)
        for name, column in self.columns.items():
            path = column_path(folder, name)
            path.parent.mkdir(exist_ok=True)
            kept = column.dtype == np.float16 or is_soft(column)
            np.save(path, column if kept else np.asarray(column, dtype=np.float32))

    @classmethod
    def load(cls, folder: str | Path, mmap: bool = True, mismatched: str | Path | None = None) -> SequenceStore:
        """Open what `save` wrote, without reading it if `mmap`; `mismatched` is the folder of its mismatched sequences.

        Raises FileNotFoundError where an array is not there.
        """

        def read(path: Path) -> np.ndarray:
            return np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)

        paths = {name: Path(folder) / f"{name}.npy" for name in ARRAYS | OPTIONAL_ARRAYS}
        arrays = {name: read(path) for name, path in paths.items() if name in ARRAYS or path.exists()}
        named = [column_path(folder, REFERENCE), *sorted((Path(folder) / COLUMNS).glob("*.npy"))]
        store = cls.from_arrays(arrays, {path.stem: read(path) for path in named if path.exists()})
        return store if mismatched is None else store.with_mismatched(cls.load(mismatched, mmap))


def column_path(folder: str | Path, name: str) -> Path:
    """Where a store's column lies on disk."""
    return Path(folder) / (f"{name}.npy" if name == REFERENCE else f"{COLUMNS}/{name}.npy")
