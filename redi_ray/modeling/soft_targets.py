"""Soft targets in the fused head: a divergence from a teacher's distribution at each scored token, in the one pass over logits.

The teacher's distribution is known by its k likeliest tokens S and, as one outcome more, all others together
(`redi_ray.modeling.soft_columns`). The student's over the same outcomes has the logits `z_v` of S and `r = log sum_{v not in S}
exp z_v`, so that a chunk of logits is read once for r and written once for the gradient, as with a single target:

    a = (z_S, r) [k + 1]     g = d loss / d a     d loss / d z_v = g_v in S,  g_r exp(z_v - r) elsewhere

r is summed over the others alone, never had by subtraction: where the student is sure, 1 - p would be lost in rounding. Terms of
the log-prob of the token that is there (SFT, REDI's negatives) go into the same g. Memory is that of the chunk, and `[N, k]`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from redi_ray.modeling.fused_softmax import spread_kernels
from redi_ray.modeling.soft_columns import NOTHING
from redi_ray.objectives.divergences import Divergence, divergence


class SoftTargets:
    """Of one pack: what a teacher says of its scored rows, and how much each counts."""

    def __init__(self, ids: Tensor, logps: Tensor, coefficients: Tensor, how: Divergence) -> None:
        """
        Args:
            ids: `[N, k]` of any integer type: the teacher's likeliest tokens, none twice in a row.
            logps: `[N, k + 1]` their log-probs and that of all others together, up to a constant in each row.
            coefficients: `[N]` d loss / d divergence.
            how: which one.
        """
        self.ids, self.logps, self.coefficients, self.how = ids, logps, coefficients, how
        self.values = torch.zeros(len(ids), dtype=torch.float64, device=ids.device)
        """`[N]` divergences (nats), once their gradient has been taken; 0 where they do not count."""

    def weigh(
        self,
        logits: Tensor,
        targets: Tensor,
        coefficients: Callable[[Tensor], Tensor],
        rows: slice,
        out: Tensor,
        scale: float,
        softcap: float | None,
    ) -> Tensor:
        """Write the gradient of the rows' divergences and of `sum c[B] * logps[B]` with respect to `logits[B, V]`, which are used
        up, into `out[B, V]`, which may be the same memory. Returns logps`[B]` of `targets[B]`.

        coefficients: logps -> c. rows: which of the N these are. scale, softcap: as in `HeadShape`.
        """
        ids = self.ids[rows].long()
        passes = (_Fused if logits.is_cuda else _InPlace)(logits, scale, softcap)
        picked, aimed = passes.shaped.gather(1, ids), passes.shaped.gather(1, targets[:, None])
        rest = passes.rest(ids)
        outcomes = torch.cat([picked, rest], 1)
        sums = outcomes.logsumexp(1, keepdim=True)
        logps = (aimed - sums)[:, 0]
        c, shares = coefficients(logps)[:, None], (outcomes - sums).exp()
        found = self._slopes(outcomes, rows).sub_(c * shares)
        own, others = found[:, :-1], found[:, -1:]
        hot = ids == targets[:, None]
        own = own + c * hot
        known = hot.any(1, keepdim=True)
        # exp(-inf - -inf) where there are no others is not looked at
        at_target = torch.where(known, (own * hot).sum(1, keepdim=True), c + others * (aimed - rest).exp())
        passes.spread(others, out)
        for places, values, z in ((ids, own, picked), (targets[:, None], at_target, aimed)):
            slope = scale if softcap is None else scale * (1 - (z / softcap) ** 2)
            out.scatter_(1, places, (values * slope).to(out.dtype))
        return logps

    def _slopes(self, outcomes: Tensor, rows: slice) -> Tensor:
        """d loss / d outcome of the divergences, `[B, k + 1]`; their values are kept."""
        theirs = self.logps[rows].to(outcomes.dtype)
        whole = self.how.rest == "bucket"
        if not whole:
            outcomes, theirs = outcomes[:, :-1], theirs[:, :-1]
        # of what the student cannot say nothing is learnt: the rest where its head has no other rows, while the teacher's head
        # is padded, or has there the least number that is stored; the forward KL would be infinite
        theirs = theirs.masked_fill(outcomes.isneginf(), -torch.inf)
        if self.how.name == "reverse_kl":
            # the other way round: what the teacher cannot say, such as the rows of a padded head behind all of its tokens, would
            # cost the student without bound, by the number that stands for none; the others have zero there, or a bound
            outcomes = outcomes.masked_fill(theirs < NOTHING, -torch.inf)
        values, slopes = divergence(outcomes, theirs, self.how)
        counts = self.coefficients[rows].to(outcomes.dtype)[:, None]
        # what does not count may be anything
        self.values[rows] = torch.where(counts[:, 0] != 0, values, 0.0).double()
        slopes = torch.where(counts != 0, counts * slopes, 0.0)
        return slopes if whole else torch.nn.functional.pad(slopes, (0, 1))


class _InPlace:
    """The two passes over a block in a CPU's caches."""

    def __init__(self, logits: Tensor, scale: float, softcap: float | None) -> None:
        self.scale, self.slope = scale, None
        if scale != 1.0:
            logits.mul_(scale)
        if softcap is not None:
            logits.div_(softcap).tanh_()
            self.slope = 1 - logits * logits
            logits.mul_(softcap)
        self.shaped = logits

    def rest(self, ids: Tensor) -> Tensor:
        """`[B, 1]` log of the sum of the exponentials but for those of `ids[B, k]`; -inf where there are no others."""
        others = self.shaped.scatter_(1, ids, -torch.inf)
        largest = others.amax(1, keepdim=True).clamp(min=torch.finfo(others.dtype).min)
        self.total = others.sub_(largest).exp_().sum(1, keepdim=True)
        return self.total.log() + largest

    def spread(self, factors: Tensor, out: Tensor) -> None:
        """Write `factors[B, 1]` times each other token's share of the rest."""
        self.shaped.mul_(torch.where(self.total > 0, factors / self.total, 0.0) * self.scale)
        if self.slope is not None:
            self.shaped.mul_(self.slope)
        if out.data_ptr() != self.shaped.data_ptr():
            out.copy_(self.shaped)


class _Fused:
    """The same on a GPU, one kernel each. With a softcap there is one pass more, which shapes the logits."""

    def __init__(self, logits: Tensor, scale: float, softcap: float | None) -> None:
        self.sums, self.write, shape = spread_kernels(logits.device)
        self.softcap = softcap
        self.scale = scale
        self.shaped = logits if scale == 1.0 and softcap is None else shape(logits, scale, softcap)

    def rest(self, ids: Tensor) -> Tensor:
        self.found = self.sums(self.shaped.scatter_(1, ids, -torch.inf))
        return self.found

    def spread(self, factors: Tensor, out: Tensor) -> None:
        self.write(self.shaped, self.found, factors, out, self.scale, self.softcap)
