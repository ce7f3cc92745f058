"""Towards another model, over the whole vocabulary: the KL divergence of the policy from a frozen model at each scored token.
Its gradient is added to that of the log-probs while the logits are there.

    KL_t = sum_v p_v (log p_v - log q_v),     d KL_t / d z_v = p_v (log p_v - log q_v - KL_t)

p and q are the softmaxes of the two models' logits, z those of the policy as its softmax sees them. Of either model a block of
logits is held at a time.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from redi_ray.modeling.fused_softmax import shaped


class Pull:
    """Of one pack: what a frozen model says of its scored rows, and how much each counts."""

    def __init__(
        self,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        coefficients: Tensor,
        scale: float = 1.0,
        softcap: float | None = None,
    ) -> None:
        """Arguments as of `weighted_logps`, but of the frozen model; `coefficients[N]` are d loss / d KL of each row."""
        self.hidden, self.weight, self.bias = hidden, weight, bias
        self.coefficients, self.scale, self.softcap = coefficients, scale, softcap
        self.values = torch.zeros(len(hidden), dtype=torch.float64, device=hidden.device)
        """`[N]` KL of each row (nats), once its gradient has been taken."""

    def gradient(self, logits: Tensor, rows: slice, scale: float, softcap: float | None) -> Tensor:
        """Of `logits[B, V]` of the policy, as the product made them, which stay as they are: `[B, V]` in their type.

        rows: which of the N these are. scale, softcap: the policy's (`HeadShape`).
        """
        theirs = F.linear(self.hidden[rows], self.weight, self.bias).to(logits.dtype)
        z = shaped(logits, scale, softcap)
        logs = z.log_softmax(1)
        apart = logs - shaped(theirs, self.scale, self.softcap).log_softmax(1)
        shares = logs.exp()
        terms = shares * apart
        divergence = terms.sum(1, keepdim=True)
        self.values[rows] = divergence[:, 0].double()
        found = terms.sub_(shares.mul_(divergence)).mul_(self.coefficients[rows].to(logits.dtype)[:, None])
        if softcap is not None:
            found.mul_(1 - (z / softcap) ** 2)
        return found if scale == 1.0 else found.mul_(scale)
