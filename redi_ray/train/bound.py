"""An objective bound to one step's batch: what the data say of it, and what follows from the policy's log-probs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from redi_ray.config.objectives import Objective
from redi_ray.modeling.logps import Local
from redi_ray.objectives import OBJECTIVES
from redi_ray.objectives.base import MismatchedScores, Scores, Tokens
from redi_ray.train.batches import StepPlan
from redi_ray.train.packs import PackTensors, Slots
from redi_ray.train.sequences import REFERENCE, SequenceStore
from redi_ray.train.tails import Tails


@dataclass(frozen=True)
class BatchUnits:
    """The units of a batch's K sequences, U of them, in order. One that `max_length` has cut off whole is none."""

    slots: Slots
    """Of each sequence, the places of its units among the U (of a unit that is none, that of another)."""
    sequence: np.ndarray
    """`[U]` which of the K sequences each belongs to."""
    lengths: np.ndarray
    """`[U]` scored tokens."""
    kept: np.ndarray
    """Which of all units of the sequences are among the U."""


def batch_units(store: SequenceStore, sequences: np.ndarray) -> BatchUnits:
    of_each = [store.unit_lengths(int(i)) for i in sequences]
    counts, lengths = [len(of) for of in of_each], np.concatenate(of_each)
    kept = lengths > 0
    slots = np.split(np.cumsum(kept) - 1, np.cumsum(counts)[:-1])
    named = dict(zip(sequences.tolist(), slots, strict=True))
    return BatchUnits(named, np.repeat(np.arange(len(sequences)), counts)[kept], lengths[kept], kept)


def make_scores(
    store: SequenceStore, sequences: np.ndarray, units: BatchUnits, objective: Objective, tails: Tails | None = None
) -> Scores:
    """Everything of the batch's `Scores` that the data say; log-probs are zeros, float64, on the CPU."""
    spec, side, group = OBJECTIVES[objective.name], store.side[sequences], store.group[sequences]
    chosen = rejected = np.zeros(0, dtype=np.int64)
    if spec.sides == "pairs":  # of one unit a sequence
        by_group = np.argsort(group, kind="stable")
        chosen, rejected = by_group[side[by_group] > 0], by_group[side[by_group] < 0]

    def doubles(of_each: Sequence[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.concatenate(of_each)[units.kept].astype(np.float64))

    def summed(column: str | None) -> Tensor:
        return doubles([store.column_sums(int(i), column, tails) for i in sequences])

    rewards = None if store.reward is None else doubles([store.reward[store.units(int(i))] for i in sequences])
    return Scores(
        logps=torch.zeros(len(units.lengths), dtype=torch.float64),
        lengths=torch.from_numpy(units.lengths).double(),
        sides=torch.from_numpy(side[units.sequence].astype(np.int64)),
        chosen=torch.from_numpy(chosen),
        rejected=torch.from_numpy(rejected),
        group=torch.from_numpy(np.unique(group, return_inverse=True)[1][units.sequence]),
        sequence=torch.from_numpy(units.sequence),
        ref_logps=doubles([store.ref_sums(int(i), tails) for i in sequences]) if spec.needs_reference else None,
        rewards=rewards,
        sums={name: summed(name) for name in spec.sums(objective)},
        weights=summed(None),
    )


def mismatched_scores(store: SequenceStore, sequences: np.ndarray, logps: Tensor) -> MismatchedScores:
    """What the store of mismatched sequences says of these, beside the policy's `logps[K]`; on the CPU."""
    return MismatchedScores(
        logps=logps.cpu(),
        ref_logps=torch.from_numpy(np.concatenate([store.ref_sums(int(i)) for i in sequences])),
        # A completion may have been cut down to masked tokens: a sum over none of them is 0 under any length.
        lengths=torch.from_numpy(store.scored[sequences]).double().clamp(min=1),
    )


def columns_of(objective: Objective) -> tuple[str, ...]:
    """The token columns that an objective's pointwise part reads."""
    spec = OBJECTIVES[objective.name]
    if spec.pointwise is None:
        return ()
    return (*([REFERENCE] if spec.needs_reference else []), *spec.columns(objective))


class BoundObjective:
    """Log-probs `[U]` -> loss and metrics, or coefficients; and the pointwise part of a pack's tokens."""

    def __init__(
        self,
        store: SequenceStore,
        plan: StepPlan,
        objective: Objective,
        progress: float,
        units: BatchUnits,
        mismatched: MismatchedScores | None = None,
    ) -> None:
        self.spec = OBJECTIVES[objective.name]
        self.settings, self.progress = objective, progress
        scores = make_scores(store, plan.sequences, units, objective, plan.tails)
        self.scores = replace(scores, mismatched=mismatched)
        self.num_sequences, self.num_groups = len(plan.sequences), len(plan.groups)
        self.num_tokens = int(units.lengths.sum())
        self.per_unit = None if self.spec.per_unit is None else self.spec.per_unit(self.scores, objective)

    def coefficients(self, logps: Tensor) -> Tensor:
        """`d psi / d logps`, `[U]`: what every scored token of a unit has by its weight."""
        leaf = logps.detach().cpu().requires_grad_()
        with torch.enable_grad():
            loss, _ = self.spec.psi(replace(self.scores, logps=leaf), self.settings, self.progress)
            return torch.autograd.grad(loss, leaf)[0]

    def local(self, tensors: PackTensors, factor: float = 1.0) -> Local | None:
        """`d phi / d logp` of a pack's tokens, times `factor`, as the kernel asks for it; None without a pointwise part."""
        if self.spec.pointwise is None:
            return None
        tokens = self._tokens(tensors)
        return lambda rows, logps: factor * self._terms(tokens, rows, logps)[1]

    def local_sum(self, tensors: PackTensors, logps: Tensor) -> Tensor:
        """The pointwise terms of a pack's tokens with `logps[N]`, added up: `[]` float64, NaN where a derivative is none."""
        every = slice(0, len(logps))
        if self.spec.pointwise is None:
            return logps.new_zeros((), dtype=torch.float64)
        terms, slopes = self._terms(self._tokens(tensors), every, logps)
        return torch.where(torch.isfinite(slopes), terms.double(), math.nan).sum()

    def _terms(self, tokens: Tokens, rows: slice, logps: Tensor) -> tuple[Tensor, Tensor]:
        """`[B]` terms of some tokens, and their derivatives."""
        assert self.spec.pointwise is not None
        leaf = logps.detach().requires_grad_()
        with torch.enable_grad():
            terms = self.spec.pointwise(tokens.at(rows, leaf), self.settings, self.progress)
            assert terms.shape == leaf.shape, f"a pointwise part gives a term per token, not {tuple(terms.shape)}"
            return terms.detach(), torch.autograd.grad(terms.sum(), leaf)[0]

    def _tokens(self, tensors: PackTensors) -> Tokens:
        """The pack's N scored tokens, their log-probs yet zeros."""

        def of_unit(values: Tensor) -> Tensor:
            return values.to(tensors.slots.device)[tensors.slots]

        zeros = torch.zeros(len(tensors.slots), dtype=torch.float64, device=tensors.slots.device)
        return Tokens(
            logps=zeros,
            weights=tensors.weighted(zeros + 1),
            sides=of_unit(self.scores.sides),
            lengths=of_unit(self.scores.lengths),
            columns=tensors.columns,
            rewards=None if self.scores.rewards is None else of_unit(self.scores.rewards),
            num_tokens=self.num_tokens,
            num_sequences=self.num_sequences,
            num_groups=self.num_groups,
            per_unit=None if self.per_unit is None else of_unit(self.per_unit),
        )

    def evaluate(self, logps: Tensor, local_sum: float) -> tuple[float, dict[str, float]]:
        """Loss and metrics of the batch. local_sum: of all its tokens."""
        scores = replace(self.scores, logps=logps.cpu())
        loss, metrics = self.spec.psi(scores, self.settings, self.progress)
        means, values = scores.mean_logps(), {name: float(value) for name, value in metrics.items()}
        noun = self.spec.reads.removesuffix("s")
        for name, side in ((f"chosen_{noun}", 1), (f"rejected_{noun}", -1)):
            if (scores.sides == side).any():
                values[name] = float(means[scores.sides == side].mean())
        if len(scores.chosen):
            chosen, rejected = scores.pairs(means)
            values["margin"] = float((chosen - rejected).mean())
            values["pair_accuracy"] = float((chosen > rejected).double().mean())
        if self.spec.pointwise is None:
            return float(loss), values
        return float(loss) + local_sum, values | {"pointwise": local_sum}
