"""One optimizer step's forward and backward: scores, coefficients, gradients, exactly those of the global loss.

    linear objective        coefficients are known: one fused pass per pack
    otherwise, one pack     scores and coefficients inside the same forward pass (the head runs twice)
    otherwise, many packs   a scoring pass over all packs without gradient, then one fused pass per pack
    mismatched baseline     before all that, a scoring pass over the mismatched sequences' packs
    pointwise part          its derivatives are taken inside the fused pass: no further one
    KL over the vocabulary  a forward pass of the frozen model before the fused pass of each pack
    soft targets            inside the fused pass, in place of the single target's softmax

Normalisation happens once, in the objective, over the global batch; ranks merely contribute terms of one sum. FSDP2
averages gradients over ranks, so coefficients are multiplied by the number of ranks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from redi_ray.config.objectives import Objective
from redi_ray.config.training import TrainSettings
from redi_ray.modeling.policy import Coefficients, Policy
from redi_ray.modeling.pull import Pull
from redi_ray.objectives import OBJECTIVES
from redi_ray.train.batches import StepPlan
from redi_ray.train.bound import BoundObjective, batch_units, columns_of, mismatched_scores
from redi_ray.train.packs import PackTensors, packs_of, run_pack
from redi_ray.train.results import StepResult, sum_over_ranks
from redi_ray.train.sequences import SequenceStore
from redi_ray.train.shard import begin_pack
from redi_ray.train.soft import SoftTerms, divergence_of


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
    anchor: Policy | None = None,
) -> StepResult:
    """Gradient of the global loss, added to `.grad` of the (sharded) parameters, and what was measured on the way.

    A collective call: every rank passes its own `rank` and the same of everything else. `progress` is step / total steps.
    anchor: the frozen model that an objective with a KL over the vocabulary (`kl_weight`) is pulled towards, whole on every rank.
    """
    device = torch.device(device)
    units, spec = batch_units(store, plan.sequences), OBJECTIVES[objective.name]
    read: Any = {"columns": columns_of(objective), "soft": divergence_of(objective)}
    packs = list(packs_of(store, plan.packs_of_rank, rank, units.slots, device, tails=plan.tails, **read))
    chunk, masks = settings.head_chunk_tokens, partial(same_masks, policy, settings.seed, plan.step, rank)
    scoring = _Scoring(len(units.lengths), device, world_size)
    score = partial(scoring.scored, policy, chunk, masks)

    mismatched = None
    if store.mismatched is not None and plan.mismatched_packs_of_rank[rank]:
        sums = score(packs_of(store.mismatched, plan.mismatched_packs_of_rank, rank, units.slots, device))
        mismatched = mismatched_scores(store.mismatched, plan.sequences, sums)
    bound = BoundObjective(store, plan, objective, progress, units, mismatched)
    coefficients: Tensor | None = None
    if spec.linear(objective):
        coefficients = bound.coefficients(bound.scores.logps)
    elif len(packs) > 1:
        coefficients = bound.coefficients(score(packs))

    sums, local_sum = scoring.zeros(), torch.zeros((), dtype=torch.float64, device=device)
    pulls = _Pulls(anchor, kl_weight(objective), world_size / bound.num_tokens)
    softs = SoftTerms(bound, world_size, device)
    for number, tensors in enumerate(packs):
        begin_pack(policy, last=number == len(packs) - 1)
        weights: Coefficients = (
            scoring.late(bound, tensors) if coefficients is None else scoring.per_token(tensors, coefficients)
        )
        pull, soft = pulls.of(tensors), softs.of(tensors)
        with masks(number):
            total, logps = run_pack(policy, tensors, weights, chunk, bound.local(tensors, world_size), pull, soft)
        total.backward()
        pulls.add(tensors, pull)
        softs.add(soft)
        tensors.add_to(sums, logps)
        local_sum += bound.local_sum(tensors, logps)
    if spec.pointwise is not None:
        local_sum = sum_over_ranks(local_sum, world_size)
    result = _result(bound, sum_over_ranks(sums, world_size), float(local_sum), store, plan)
    return softs.added_to(pulls.added_to(result, bound.num_tokens, world_size))


def kl_weight(objective: Objective) -> float:
    """What the KL over the vocabulary from the model that training starts from counts; 0 for none."""
    return getattr(objective, "kl_vocabulary", 0.0)


def pull_of(anchor: Policy, tensors: PackTensors, weight: float) -> Pull:
    """Of a pack: each scored token counts as much as it weighs, times `weight`."""
    coefficients = tensors.weighted(
        torch.full((len(tensors.rows),), weight, dtype=torch.float64, device=tensors.rows.device)
    )
    return anchor.pull(tensors.input_ids, tensors.position_ids, tensors.layout, tensors.rows, coefficients)


class _Pulls:
    """A step's KL over the vocabulary from a frozen model; without a weight there is none."""

    def __init__(self, anchor: Policy | None, weight: float, per_weight: float) -> None:
        """per_weight: what a token's term counts for each unit of the weight, over all ranks."""
        assert (weight > 0) <= (anchor is not None), "a KL over the vocabulary needs the model that it is taken from"
        self.anchor, self.weight, self.per_weight = anchor, weight, per_weight
        self.sum: Tensor | None = None

    def of(self, tensors: PackTensors) -> Pull | None:
        """Of a pack, to be handed to its fused pass."""
        if not self.weight or self.anchor is None:
            return None
        return pull_of(self.anchor, tensors, self.weight * self.per_weight)

    def add(self, tensors: PackTensors, pull: Pull | None) -> None:
        """What the pass has found."""
        if pull is not None:
            found = tensors.weighted(pull.values).sum()
            self.sum = found if self.sum is None else self.sum + found

    def added_to(self, result: StepResult, num_tokens: int, world_size: int) -> StepResult:
        """The step with its KL, the mean over scored tokens. A collective call where there is one."""
        if not self.weight:
            return result
        assert self.sum is not None, "every rank has a pack, be it an empty one"
        divergence = float(sum_over_ranks(self.sum.double(), world_size)) / num_tokens
        metrics = result.metrics | {"kl": divergence}
        return StepResult(result.loss + self.weight * divergence, metrics, result.finite and math.isfinite(divergence))


@dataclass(frozen=True)
class _Scoring:
    """What has a score of its own in a step, and its sums over packs and ranks."""

    number: int
    device: torch.device
    world_size: int

    def zeros(self) -> Tensor:
        """float64[number]: sums to begin with."""
        return torch.zeros(self.number, dtype=torch.float64, device=self.device)

    def scored(
        self,
        policy: Policy,
        chunk: int,
        masks: Callable[[int], AbstractContextManager[None]],
        packs: Iterable[PackTensors],
    ) -> Tensor:
        """float64[number]: a scoring pass over the packs of all ranks, without gradient. A collective call."""
        sums = self.zeros()
        with torch.no_grad():
            for number, tensors in enumerate(packs):
                with masks(number):
                    tensors.add_to(sums, run_pack(policy, tensors, None, chunk)[1])
        return sum_over_ranks(sums, self.world_size)

    def per_token(self, tensors: PackTensors, coefficients: Tensor) -> Tensor:
        """Coefficients `[number]` as those of a pack's scored tokens, times the ranks that FSDP2 averages over."""
        return tensors.weighted((coefficients.to(self.device) * self.world_size)[tensors.slots])

    def late(self, bound: BoundObjective, tensors: PackTensors) -> Callable[[Tensor], Tensor]:
        """Coefficients as a function of the only pack's log-probs, to be called inside the forward pass on every rank."""

        def coefficients(logps: Tensor) -> Tensor:
            sums = self.zeros()
            tensors.add_to(sums, logps)
            return self.per_token(tensors, bound.coefficients(sum_over_ranks(sums, self.world_size)))

        return coefficients


def _result(bound: BoundObjective, sums: Tensor, local_sum: float, store: SequenceStore, plan: StepPlan) -> StepResult:
    loss, metrics = bound.evaluate(sums, local_sum)
    metrics |= {
        "scored_tokens": float(store.scored[plan.sequences].sum()),
        "total_tokens": float(plan.tokens),
        "pack_fill": plan.pack_fill,
    }
    finite = math.isfinite(loss) and bool(torch.isfinite(bound.coefficients(sums)).all())
    return StepResult(loss, metrics, finite)
