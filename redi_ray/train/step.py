"""One optimizer step's forward and backward: scores, coefficients, gradients, exactly those of the global loss.

    linear objective        coefficients are known: one fused pass per pack
    otherwise, one pack     scores and coefficients inside the same forward pass (the head runs twice)
    otherwise, many packs   a scoring pass over all packs without gradient, then one fused pass per pack
    mismatched baseline     before all that, a scoring pass over the mismatched sequences' packs

Normalisation happens once, in the objective, over the global batch; ranks merely contribute terms of one sum. FSDP2
averages gradients over ranks, so coefficients are multiplied by the number of ranks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from redi_ray.config.objectives import Objective
from redi_ray.config.training import TrainSettings
from redi_ray.modeling.attention import PackLayout, pack_layout
from redi_ray.modeling.policy import Coefficients, Policy
from redi_ray.objectives import OBJECTIVES, MismatchedScores, Scores
from redi_ray.train.batches import Pack, StepPlan
from redi_ray.train.sequences import SequenceStore


@dataclass(frozen=True)
class StepResult:
    """What a step measured; the same on every rank."""

    loss: float
    """Loss of the global batch."""
    metrics: dict[str, float]
    """`chosen_logp` and `rejected_logp`: log-prob per scored token, averaged over sequences; `margin`: their difference
    over pairs; `pair_accuracy`: share of pairs with a positive one; `scored_tokens`, `total_tokens` of the global batch;
    `pack_fill`; and the objective's own."""
    finite: bool
    """Whether the loss and all coefficients are finite. Every rank has the same answer."""


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
    """`[N]` which of the step's K sequences each belongs to."""


def pack_tensors(
    store: SequenceStore, pack: Pack, slot_of: dict[int, int], device: torch.device, calls: int = 0
) -> PackTensors:
    """Read a pack's tokens. A dummy pack is one unscored token, so that its rank takes part in the collectives.

    `calls`: the most sequences of any rank's pack at this time, see `PackLayout`.
    """
    spans = [store.span(i) for i in pack.sequences]
    ids = np.concatenate([store.tokens[s] for s in spans]) if spans else np.zeros(1, dtype=np.int32)
    weights = np.concatenate([store.weights[s] for s in spans]) if spans else np.zeros(1, dtype=np.uint8)
    lengths = [s.stop - s.start for s in spans] or [1]
    slots = np.repeat([slot_of.get(i, 0) for i in pack.sequences] or [0], lengths)
    scored = np.flatnonzero(weights)

    def on_device(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array.astype(np.int64)).to(device, non_blocking=True)

    return PackTensors(
        input_ids=on_device(ids),
        position_ids=on_device(np.concatenate([np.arange(n) for n in lengths])),
        layout=pack_layout(lengths, calls).to(device),
        rows=on_device(scored - 1),
        targets=on_device(ids[scored]),
        slots=on_device(slots[scored]),
    )


def packs_of(
    store: SequenceStore, packs_of_rank: list[list[Pack]], rank: int, slot_of: dict[int, int], device: torch.device
) -> Iterator[PackTensors]:
    """A rank's packs of a step, which know how many sequences the other ranks have at the same time."""
    for at_once in zip(*packs_of_rank, strict=True):
        calls = max(len(pack.sequences) for pack in at_once)
        yield pack_tensors(store, at_once[rank], slot_of, device, calls)


@contextmanager
def same_masks(policy: Policy, seed: int, *place: int) -> Iterator[None]:
    """Inside the block dropout depends on the place (step, rank, pack) alone: scores and gradients see the same network."""
    if not policy.is_random:
        yield
        return
    device = policy.head_weight.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(int(np.random.SeedSequence([seed, *place]).generate_state(1, np.uint64)[0]))
        yield


def run_pack(
    policy: Policy, tensors: PackTensors, coefficients: Coefficients | None, chunk_tokens: int
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
    )


def sum_over_ranks(sums: Tensor, world_size: int) -> Tensor:
    """Add up `sums[K]`; every sequence lives on one rank and is zero on the others."""
    if world_size > 1:
        dist.all_reduce(sums)
    return sums


def make_scores(store: SequenceStore, sequences: np.ndarray, needs_reference: bool, paired: bool) -> Scores:
    """Everything of the batch's `Scores` that the data say; log-probs are zeros, float64, on the CPU."""
    side = store.side[sequences]
    chosen = rejected = np.zeros(0, dtype=np.int64)
    if paired:
        group = store.group[sequences]
        by_group = np.argsort(group, kind="stable")
        chosen, rejected = by_group[side[by_group] > 0], by_group[side[by_group] < 0]
    reference = [store.ref_sum(i) for i in sequences] if needs_reference else None
    return Scores(
        logps=torch.zeros(len(sequences), dtype=torch.float64),
        lengths=torch.from_numpy(store.scored[sequences]).double(),
        sides=torch.from_numpy(side.astype(np.int64)),
        chosen=torch.from_numpy(chosen),
        rejected=torch.from_numpy(rejected),
        ref_logps=None if reference is None else torch.tensor(reference, dtype=torch.float64),
    )


def mismatched_scores(store: SequenceStore, sequences: np.ndarray, logps: Tensor) -> MismatchedScores:
    """What the store of mismatched sequences says of these, beside the policy's `logps[K]`; on the CPU."""
    return MismatchedScores(
        logps=logps.cpu(),
        ref_logps=torch.tensor([store.ref_sum(i) for i in sequences], dtype=torch.float64),
        # A completion may have been cut down to masked tokens: a sum over none of them is 0 under any length.
        lengths=torch.from_numpy(store.scored[sequences]).double().clamp(min=1),
    )


class _Objective:
    """An objective bound to one step's batch: log-probs`[K]` -> loss and metrics, or coefficients."""

    def __init__(
        self,
        store: SequenceStore,
        plan: StepPlan,
        objective: Objective,
        progress: float,
        mismatched: MismatchedScores | None,
    ) -> None:
        self.spec = OBJECTIVES[objective.name]
        self.settings, self.progress = objective, progress
        paired = self.spec.sides == "pairs"
        scores = make_scores(store, plan.sequences, self.spec.needs_reference, paired)
        self.scores = replace(scores, mismatched=mismatched)

    def coefficients(self, logps: Tensor) -> Tensor:
        """`d loss / d logps`, `[K]`: what every scored token of a sequence is weighted with."""
        leaf = logps.detach().cpu().requires_grad_()
        with torch.enable_grad():
            loss, _ = self.spec.psi(replace(self.scores, logps=leaf), self.settings, self.progress)
            return torch.autograd.grad(loss, leaf)[0]

    def evaluate(self, logps: Tensor) -> tuple[float, dict[str, float]]:
        """Loss and metrics of the batch."""
        scores = replace(self.scores, logps=logps.cpu())
        loss, metrics = self.spec.psi(scores, self.settings, self.progress)
        means, values = scores.mean_logps(), {name: float(value) for name, value in metrics.items()}
        for name, side in (("chosen_logp", 1), ("rejected_logp", -1)):
            if (scores.sides == side).any():
                values[name] = float(means[scores.sides == side].mean())
        if len(scores.chosen):
            chosen, rejected = scores.pairs(means)
            values["margin"] = float((chosen - rejected).mean())
            values["pair_accuracy"] = float((chosen > rejected).double().mean())
        return float(loss), values


def forward_backward(
    policy: Policy,
    store: SequenceStore,
    plan: StepPlan,
    objective: Objective,
    *,
    progress: float,
    settings: TrainSettings,
    rank: int = 0,
    world_size: int = 1,
    device: torch.device | str = "cpu",
) -> StepResult:
    """Gradient of the global loss, added to `.grad` of the (sharded) parameters, and what was measured on the way.

    A collective call: every rank passes its own `rank` and the same of everything else. `progress` is step / total steps.
    """
    device = torch.device(device)
    slot_of = {int(i): k for k, i in enumerate(plan.sequences)}
    packs = list(packs_of(store, plan.packs_of_rank, rank, slot_of, device))
    chunk, num_sequences = settings.head_chunk_tokens, len(plan.sequences)

    masks = partial(same_masks, policy, settings.seed, plan.step, rank)

    def new_sums() -> Tensor:
        return torch.zeros(num_sequences, dtype=torch.float64, device=device)

    def score(packs: Iterable[PackTensors]) -> Tensor:
        sums = new_sums()
        with torch.no_grad():
            for number, tensors in enumerate(packs):
                with masks(number):
                    sums.index_add_(0, tensors.slots, run_pack(policy, tensors, None, chunk)[1].double())
        return sum_over_ranks(sums, world_size)

    def per_token(tensors: PackTensors, per_sequence: Tensor) -> Tensor:
        return (per_sequence.to(device) * world_size)[tensors.slots]

    mismatched = None
    if store.mismatched is not None and plan.mismatched_packs_of_rank[rank]:
        sums = score(packs_of(store.mismatched, plan.mismatched_packs_of_rank, rank, slot_of, device))
        mismatched = mismatched_scores(store.mismatched, plan.sequences, sums)
    bound = _Objective(store, plan, objective, progress, mismatched)
    coefficients: Tensor | None = None
    if bound.spec.linear(objective):
        coefficients = bound.coefficients(bound.scores.logps)
    elif len(packs) > 1:
        coefficients = bound.coefficients(score(packs))

    sums = new_sums()
    for number, tensors in enumerate(packs):
        weights: Coefficients
        if coefficients is None:
            weights = _late_coefficients(bound, tensors, new_sums, per_token, world_size)
        else:
            weights = per_token(tensors, coefficients)
        with masks(number):
            total, logps = run_pack(policy, tensors, weights, chunk)
        total.backward()
        sums.index_add_(0, tensors.slots, logps.double())
    sums = sum_over_ranks(sums, world_size)
    return _result(bound, sums, store, plan)


def _late_coefficients(
    bound: _Objective,
    tensors: PackTensors,
    new_sums: Callable[[], Tensor],
    per_token: Callable[[PackTensors, Tensor], Tensor],
    world_size: int,
) -> Callable[[Tensor], Tensor]:
    """Coefficients as a function of the only pack's log-probs, to be called inside the forward pass on every rank."""

    def coefficients(logps: Tensor) -> Tensor:
        sums = sum_over_ranks(new_sums().index_add_(0, tensors.slots, logps.double()), world_size)
        return per_token(tensors, bound.coefficients(sums))

    return coefficients


def _result(bound: _Objective, sums: Tensor, store: SequenceStore, plan: StepPlan) -> StepResult:
    loss, metrics = bound.evaluate(sums)
    metrics |= {
        "scored_tokens": float(store.scored[plan.sequences].sum()),
        "total_tokens": float(plan.tokens),
        "pack_fill": plan.pack_fill,
    }
    finite = math.isfinite(loss) and bool(torch.isfinite(bound.coefficients(sums)).all())
    return StepResult(loss, metrics, finite)
