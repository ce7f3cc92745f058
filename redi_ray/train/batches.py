"""The batch plan: step -> groups -> sequences -> packs -> ranks, as a pure function.

Which groups a step has depends on (seed, step) alone. How their sequences are packed and spread over ranks depends on
the world size too, but never changes the batch, the loss (normalised over the global batch) or the number of steps.

Packing is first-fit-decreasing by tokens, which finds the number of packs; then the sequences are spread over that many
packs, evenly by the floating-point operations they cost, and packs of similar cost run at the same time on different
ranks. Chosen and rejected sides pack apart: nothing in the loss needs them in one row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from redi_ray.config.objectives import Objective
from redi_ray.config.training import TrainSettings
from redi_ray.objectives import OBJECTIVES
from redi_ray.train.lengths import too_long_message
from redi_ray.train.requirements import require_data
from redi_ray.train.sequences import SequenceStore
from redi_ray.train.tails import Tails, common_lengths

EQUAL_COST_LENGTH = 36_000
"""Length (tokens) at which attention costs as much as all linear layers, for the balance between ranks: about 2 N / (L d)
with N parameters, L layers and hidden size d, here of Qwen2.5-1.5B. Only the balance depends on it."""


@dataclass(frozen=True)
class Pack:
    """Sequences laid end to end in one row, longest first: the unit of a forward pass. Without any it is a dummy."""

    sequences: tuple[int, ...]
    tokens: int


@dataclass(frozen=True)
class StepPlan:
    """One optimizer step."""

    step: int
    groups: np.ndarray
    """`[G]` members of the global batch."""
    sequences: np.ndarray
    """`[K]` their sequences that are scored, in batch order."""
    packs_of_rank: list[list[Pack]]
    """Packs by rank; every rank has the same number, since sharded forward passes are collective."""
    fewest_packs: int
    """Packs that an ideal packing would need: tokens over budget, rounded up to whole passes of all ranks."""
    mismatched_packs_of_rank: list[list[Pack]] = field(default_factory=list)
    """Packs of the mismatched sequences of the same indices, by rank; none where the objective has no use for them."""
    tails: Tails | None = None
    """Where an objective has the ends of longer sequences weigh less."""

    @property
    def pack_fill(self) -> float:
        """Tokens over room, at most 1.

        A pack is as long as its contents, so no padding is ever computed; what can be lost is extra or uneven packs. The
        room of a pack is an even share of the step's tokens (over the fewest packs that hold them), or its own length if
        that is more.
        """
        packs = [pack for packs in self.packs_of_rank for pack in packs]
        share = self.tokens / self.fewest_packs
        return self.tokens / sum(max(pack.tokens, share) for pack in packs)

    @property
    def tokens(self) -> int:
        return sum(pack.tokens for packs in self.packs_of_rank for pack in packs)


def first_fit_decreasing(lengths: np.ndarray, budget: int) -> list[list[int]]:
    """Pack `lengths[n]` into bins of `budget` tokens -> lists of indices, longest first. Longer ones get their own bin."""
    bins: list[list[int]] = []
    room: list[int] = []
    for i in np.argsort(-lengths, kind="stable").tolist():
        for b, free in enumerate(room):
            if lengths[i] <= free:
                bins[b].append(i)
                room[b] -= int(lengths[i])
                break
        else:
            bins.append([i])
            room.append(budget - int(lengths[i]))
    return bins


def cost(length: int | np.ndarray) -> float | np.ndarray:
    """Relative cost of a sequence, linear layers plus attention, in tokens of a short sequence."""
    return length * (1 + length / EQUAL_COST_LENGTH)


def balanced(lengths: np.ndarray, budget: int, num_bins: int) -> list[list[int]] | None:
    """Spread sequences over bins of even cost within the budget (largest first into the lightest); None if one is left."""
    bins: list[list[int]] = [[] for _ in range(num_bins)]
    room = np.full(num_bins, budget, dtype=np.int64)
    load = np.zeros(num_bins)
    for i in np.argsort(-lengths, kind="stable").tolist():
        # An empty bin takes a sequence of any length: one beyond the budget has a pack of its own.
        fits = (room >= lengths[i]) | (load == 0)
        if not fits.any():
            return None
        lightest = int(np.argmin(np.where(fits, load, np.inf)))
        bins[lightest].append(i)
        room[lightest] -= lengths[i]
        load[lightest] += cost(lengths[i])
    return bins


def pack(lengths: np.ndarray, budget: int, world_size: int) -> list[list[list[int]]]:
    """Packs by rank, as indices into `lengths[n]`; ranks have equally many, the last ones perhaps without sequences."""
    packed = first_fit_decreasing(lengths, budget)
    num_bins = -(-len(packed) // world_size) * world_size
    packed = balanced(lengths, budget, num_bins) or packed
    packed += [[] for _ in range(num_bins - len(packed))]
    # Packs of similar cost run in the same pass, so that no rank waits long for another.
    packed.sort(key=lambda bin: -sum(cost(int(lengths[i])) for i in bin))
    return [packed[rank::world_size] for rank in range(world_size)]


class BatchPlan:
    """All steps of a run; `plan[step]` computes one. Holds no state beyond an epoch's order."""

    def __init__(
        self,
        store: SequenceStore,
        settings: TrainSettings,
        world_size: int,
        side_filter: int | None = None,
        mismatched: SequenceStore | None = None,
        tail: float | None = None,
    ) -> None:
        """`side_filter` = +1 trains on the chosen sequences only (SFT on pairs). `mismatched`: sequences to score beside
        the store's own, index for index. `tail`: factor on the weights of what is longer than a group's shortest sequence.
        Raises ValueError if nothing is left to train on, and for sequences longer than a pack where these are to be
        refused."""
        self.store, self.settings, self.world_size, self.side_filter = store, settings, world_size, side_filter
        self.mismatched, self.tail = mismatched, tail
        oversized = store.lengths > settings.tokens_per_pack
        if side_filter is not None:
            oversized &= store.side == side_filter
        if settings.on_oversized == "error" and oversized.any():
            raise ValueError(too_long_message(store, oversized, "tokens_per_pack", settings.tokens_per_pack))
        groups = np.arange(store.num_groups)
        if side_filter is not None:
            groups = np.unique(store.group[store.side == side_filter])
        if not len(groups):
            raise ValueError("no sequences to train on (the chosen side is empty)")
        self.groups = groups
        self.steps_per_epoch = settings.steps_per_epoch(len(groups))
        self.total_steps = settings.total_steps(len(groups))
        self._order = lru_cache(maxsize=1)(self._epoch_order)

    def __len__(self) -> int:
        return self.total_steps

    def _epoch_order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.settings.seed, epoch]).permutation(self.groups)

    def groups_of(self, step: int) -> np.ndarray:
        """`[G]` groups of the step; an epoch's last batch may be smaller and is kept."""
        if not 0 <= step < self.total_steps:
            raise IndexError(f"step {step} of {self.total_steps}")
        epoch, batch = divmod(step, self.steps_per_epoch)
        size = self.settings.batch_size
        return self._order(epoch)[batch * size : (batch + 1) * size]

    def __getitem__(self, step: int) -> StepPlan:
        groups = self.groups_of(step)
        members: Sequence[int] = [i for g in groups for i in self.store.sequences_of_group(g)]
        sequences = np.array([i for i in members if self.side_filter in (None, int(self.store.side[i]))])
        lengths = self.store.lengths[sequences]
        passes = -(-int(lengths.sum()) // (self.settings.tokens_per_pack * self.world_size))
        return StepPlan(
            step,
            groups,
            sequences,
            self._packs(sequences, lengths),
            fewest_packs=passes * self.world_size,
            mismatched_packs_of_rank=self._packs(sequences, self.mismatched.lengths[sequences])
            if self.mismatched is not None
            else [[] for _ in range(self.world_size)],
            tails=None if self.tail is None else common_lengths(self.store, groups, self.tail),
        )

    def _packs(self, sequences: np.ndarray, lengths: np.ndarray) -> list[list[Pack]]:
        return [
            [Pack(tuple(sequences[bin].tolist()), int(lengths[bin].sum())) for bin in bins]
            for bins in pack(lengths, self.settings.tokens_per_pack, self.world_size)
        ]


def plan_batches(store: SequenceStore, settings: TrainSettings, world_size: int, objective: Objective) -> BatchPlan:
    """The plan of an objective. Raises ValueError where the data lack what the objective reads."""
    require_data(store, objective)
    spec = OBJECTIVES[objective.name]
    mismatched = store.mismatched if spec.needs_mismatched(objective) else None
    side_filter = 1 if spec.sides == "chosen" else None
    tail = None if spec.tail is None else spec.tail(objective)
    return BatchPlan(store, settings, world_size, side_filter, mismatched, tail)
