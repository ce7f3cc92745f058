"""What every objective reads: the global batch as scores, and its tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class MismatchedScores:
    """Of K sequences that are no data: each the prompt of one of the batch's sequences with a completion of another group
    (`redi_ray.train.mismatched`). Constants: none of it carries a gradient."""

    logps: Tensor
    """`[K]` policy log-prob of the completion, summed over its scored tokens (nats)."""
    ref_logps: Tensor
    """`[K]` reference log-prob over the same tokens."""
    lengths: Tensor
    """`[K]` number of scored tokens, at least 1."""

    def log_ratios(self) -> Tensor:
        """`[K]` summed log-ratio to the reference."""
        return self.logps - self.ref_logps


@dataclass(frozen=True)
class Scores:
    """The global batch as an objective sees it: one number per unit, no tokens.

    U units in K sequences in G groups. A unit is what has one score: the sequence, or one of several segments of it. A
    group is a single example, a pair (one chosen, one rejected sequence) or the samples of a problem.
    """

    logps: Tensor
    """`[U]` policy log-prob of each unit: the sum of its scored tokens', each times its weight (nats)."""
    lengths: Tensor
    """`[U]` number of scored tokens, at least 1: what is counted is what is scored, after shift and truncation."""
    sides: Tensor
    """`[U]` +1 chosen or desirable, -1 rejected or undesirable."""
    chosen: Tensor
    """`[G]` index of each pair's chosen sequence; empty where examples are not paired."""
    rejected: Tensor
    """`[G]` index of each pair's rejected sequence, in the same order."""
    group: Tensor
    """`[U]` which of the batch's groups each belongs to, 0 .. G - 1."""
    sequence: Tensor
    """`[U]` which of the batch's sequences, 0 .. K - 1."""
    ref_logps: Tensor | None = None
    """`[U]` reference log-prob of each unit, the same sum; None for objectives without a reference."""
    rewards: Tensor | None = None
    """`[U]`; None where the data have none."""
    mismatched: MismatchedScores | None = None
    """Of the prompts with other groups' completions; None for objectives without a mismatched baseline."""
    sums: Mapping[str, Tensor] = field(default_factory=dict)
    """`[U]` each: of the token columns that the objective reads so, the same weighted sum as of the log-probs."""
    weights: Tensor | None = None
    """`[U]` the sum of the tokens' weights; None where the data are made by hand."""

    def pairs(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """`values[U]` -> (of the chosen sides `[G]`, of the rejected sides `[G]`)."""
        return values[self.chosen], values[self.rejected]

    def mean_logps(self) -> Tensor:
        """`[U]` log-prob per scored token."""
        return self.logps / self.lengths

    def log_ratios(self) -> Tensor:
        """`[U]` summed log-ratio to the reference, `log pi(y|x) - log pi_ref(y|x)`."""
        assert self.ref_logps is not None, "an objective with a reference was given scores without one"
        return self.logps - self.ref_logps

    def group_sums(self, values: Tensor) -> Tensor:
        """`values[U]` -> `[U]`, for each unit the sum over all units of its group."""
        groups = int(self.group.max()) + 1 if len(self.group) else 0
        return values.new_zeros(groups).index_add(0, self.group, values)[self.group]


@dataclass(frozen=True)
class Tokens:
    """Some of the global batch's scored tokens, n of them, as a pointwise part sees them.

    Which tokens come together is the kernel's business: a term may read nothing but its own token and the totals.
    """

    logps: Tensor
    """`[n]` policy log-probs (nats), with gradient."""
    weights: Tensor
    """`[n]` the tokens' own weights, none of them 0."""
    sides: Tensor
    """`[n]` +1 or -1, of the token's sequence."""
    lengths: Tensor
    """`[n]` scored tokens of the token's unit."""
    columns: Mapping[str, Tensor]
    """`[n]` each: what the objective reads by name, `ref_logps` where it has a reference."""
    rewards: Tensor | None
    """`[n]` of the token's unit; None where the data have none."""
    num_tokens: int
    """Scored tokens of the global batch."""
    num_sequences: int
    num_groups: int
    per_unit: Tensor | None = None
    """`[n]` of the token's unit, what the objective's `per_unit` has made; None where it has none."""

    def log_ratios(self, column: str = "ref_logps") -> Tensor:
        """`[n]` log-ratio of each token to the reference, or to the model whose log-probs another column has."""
        return self.logps - self.columns[column]

    def at(self, rows: slice, logps: Tensor) -> Tokens:
        """The tokens `rows` with these log-probs, all in their type."""

        def part(values: Tensor) -> Tensor:
            return values[rows].to(logps)

        return Tokens(
            logps=logps,
            weights=part(self.weights),
            sides=part(self.sides),
            lengths=part(self.lengths),
            columns={name: part(column) for name, column in self.columns.items()},
            rewards=None if self.rewards is None else part(self.rewards),
            num_tokens=self.num_tokens,
            num_sequences=self.num_sequences,
            num_groups=self.num_groups,
            per_unit=None if self.per_unit is None else part(self.per_unit),
        )


Metrics = dict[str, Tensor]


def nothing(scores: Scores, _settings: Any, _progress: float) -> tuple[Tensor, Metrics]:
    """The psi of an objective that is pointwise only."""
    return 0.0 * scores.logps.sum(), {}


def detached(values: Tensor) -> Tensor:
    """Mean of `values`, for the log."""
    return values.detach().mean() if values.numel() else torch.zeros(())
