"""Packs on the device: the tokens of a forward pass, and what is counted of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from redi_ray.modeling.attention import PackLayout, pack_layout
from redi_ray.modeling.logps import Local
from redi_ray.modeling.policy import Coefficients, Policy
from redi_ray.modeling.pull import Pull
from redi_ray.modeling.soft_columns import likeliest, unpack
from redi_ray.modeling.soft_targets import SoftTargets
from redi_ray.objectives import SOFT_TARGETS
from redi_ray.objectives.divergences import Divergence
from redi_ray.train.batches import Pack
from redi_ray.train.sequences import SequenceStore
from redi_ray.train.tails import Tails

Slots = Mapping[int, np.ndarray]
"""Sequence -> the places of its units among the U of a step."""


@dataclass(frozen=True)
class PackTensors:
    """A pack on the device: T tokens, N of them scored."""

    input_ids: Tensor
    """`[T]`"""
    position_ids: Tensor
    """`[T]`, from 0 in every sequence."""
    layout: PackLayout
    rows: Tensor
    """`[N]` position in front of each scored token."""
    targets: Tensor
    """`[N]` the scored tokens."""
    slots: Tensor
    """`[N]` which of the step's U units each belongs to."""
    weights: Tensor | None = None
    """`[N]` float64; None where all are 1."""
    columns: Mapping[str, Tensor] = field(default_factory=dict)
    """`[N]` each, of those that were asked for."""
    soft: tuple[Tensor, Tensor] | None = None
    """A teacher's `ids[N, k]` int32 and `logps[N, k + 1]` float32, where they were asked for."""

    def weighted(self, values: Tensor) -> Tensor:
        """`values[N]` times the tokens' weights."""
        return values if self.weights is None else values * self.weights

    def add_to(self, sums: Tensor, logps: Tensor) -> None:
        """Add the weighted `logps[N]` to their units' `sums[U]`."""
        sums.index_add_(0, self.slots, self.weighted(logps.double()))


def pack_tensors(
    store: SequenceStore,
    pack: Pack,
    slots: Slots | None,
    device: torch.device,
    *,
    calls: int = 0,
    columns: Sequence[str] = (),
    tails: Tails | None = None,
    soft: Divergence | None = None,
) -> PackTensors:
    """Read a pack's tokens. A dummy pack is one unscored token, so that its rank takes part in the collectives.

    slots: None where nothing is added up. calls: the most sequences of any rank's pack at this time, see `PackLayout`.
    columns: those to read. tails: of the sequences, where some weigh less. soft: what is taken from a teacher's distributions.
    """
    spans = [store.span(i) for i in pack.sequences]
    ids = np.concatenate([store.tokens[s] for s in spans]) if spans else np.zeros(1, dtype=np.int32)
    weights = (
        np.concatenate([store.weights_of(i, tails) for i in pack.sequences]) if spans else np.zeros(1, dtype=np.uint8)
    )
    lengths = [s.stop - s.start for s in spans] or [1]
    scored = np.flatnonzero(weights)

    def on_device(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array.astype(np.int64)).to(device, non_blocking=True)

    def numbers(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array.astype(np.float64)).to(device, non_blocking=True)

    def column(name: str) -> np.ndarray:
        values = store.columns[name]
        return np.concatenate([values[s] for s in spans])[scored] if spans else np.zeros(0, values.dtype)

    def distributions(how: Divergence) -> tuple[Tensor, Tensor]:
        ids, logps = likeliest(*unpack(column(SOFT_TARGETS)), how.top_k)
        found = torch.from_numpy(ids.astype(np.int32)), torch.from_numpy(logps.astype(np.float32))
        return found[0].to(device, non_blocking=True), found[1].to(device, non_blocking=True)

    return PackTensors(
        input_ids=on_device(ids),
        position_ids=on_device(np.concatenate([np.arange(n) for n in lengths])),
        layout=pack_layout(lengths, calls).to(device),
        rows=on_device(scored - 1),
        targets=on_device(ids[scored]),
        slots=on_device(_slots(store, pack, slots, lengths, scored)),
        weights=None if weights.dtype == np.uint8 else numbers(weights[scored]),
        columns={name: numbers(column(name)) for name in columns},
        soft=None if soft is None else distributions(soft),
    )


def _slots(
    store: SequenceStore, pack: Pack, slots: Slots | None, lengths: Sequence[int], scored: np.ndarray
) -> np.ndarray:
    """`[N]` the slot of each scored token."""
    if slots is None or not pack.sequences:
        return np.zeros(len(scored), dtype=np.int64)
    if store.unit is None:
        return np.repeat([slots[i][0] for i in pack.sequences], lengths)[scored]
    ends = np.cumsum(lengths)
    found = []
    for i, start, end in zip(pack.sequences, ends - lengths, ends, strict=True):
        mine = scored[np.searchsorted(scored, start) : np.searchsorted(scored, end)] - start
        found.append(slots[i][store.unit[store.span(i)][mine]])
    return np.concatenate(found)


def packs_of(
    store: SequenceStore,
    packs_of_rank: list[list[Pack]],
    rank: int,
    slots: Slots,
    device: torch.device,
    columns: Sequence[str] = (),
    tails: Tails | None = None,
    soft: Divergence | None = None,
) -> Iterator[PackTensors]:
    """A rank's packs of a step, which know how many sequences the other ranks have at the same time."""
    for at_once in zip(*packs_of_rank, strict=True):
        calls = max(len(pack.sequences) for pack in at_once)
        yield pack_tensors(store, at_once[rank], slots, device, calls=calls, columns=columns, tails=tails, soft=soft)


def run_pack(
    policy: Policy,
    tensors: PackTensors,
    coefficients: Coefficients | None,
    chunk_tokens: int,
    local: Local | None = None,
    pull: Pull | None = None,
    soft: SoftTargets | None = None,
) -> tuple[Tensor, Tensor]:
    """`Policy.forward` on a pack."""
    return policy(
        tensors.input_ids,
        tensors.position_ids,
        layout=tensors.layout,
        rows=tensors.rows,
        targets=tensors.targets,
        coefficients=coefficients,
        chunk_tokens=chunk_tokens,
        local=local,
        pull=pull,
        soft=soft,
    )
