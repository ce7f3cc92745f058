"""Tokens scored by two models: small where one that has learnt right solutions and one that has learnt wrong ones differ most.

    s_t = P_r(y_t)^(1 + beta) P_w(y_t)^(-beta) / Z_t = softmax((1 + beta) z_r - beta z_w)[y_t]

z are the logits of the two models, Z_t sums over the vocabulary; what normalises each model is constant in a position and
cancels. From Critical Tokens Matter (cDPO, arXiv 2411.19943), with beta 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from redi_ray.errors import UserError
from redi_ray.modeling.attention import PackLayout
from redi_ray.modeling.policy import Policy
from redi_ray.modeling.top_logps import head_logits

LEAST, MOST = float(torch.finfo(torch.float32).tiny), 1 - 2.0**-24
"""Ends of the open interval (0, 1) in float32: a token that weighs 1 - s has a weight that is not 0, and stays scored."""


def contrast_scores(right: Tensor, wrong: Tensor, targets: Tensor, beta: float) -> Tensor:
    """`logits[N, V]` of the two models and `targets[N]` -> s `[N]` in (0, 1), in the logits' type."""
    contrasted = (1 + beta) * right - beta * wrong
    logs = contrasted.gather(1, targets[:, None])[:, 0] - contrasted.logsumexp(1)
    return logs.exp().clamp(LEAST, MOST)


class Contrast:
    """Two policies of one vocabulary, on one device and in evaluation mode."""

    def __init__(self, right: Policy, wrong: Policy, beta: float, chunk_tokens: int) -> None:
        """chunk_tokens: scored tokens whose logits are held at a time. Raises UserError for vocabularies of two sizes."""
        sizes = [len(policy.head_weight) for policy in (right, wrong)]
        if sizes[0] != sizes[1]:
            raise UserError(
                f"contrast: the two models' vocabularies have {sizes[0]} and {sizes[1]} tokens: both must come from one base "
                "model"
            )
        self.right, self.wrong, self.beta, self.chunk_tokens = right, wrong, beta, chunk_tokens

    @torch.no_grad()
    def scores(
        self, input_ids: Tensor, position_ids: Tensor, layout: PackLayout, rows: Tensor, targets: Tensor
    ) -> Tensor:
        """s `[N]` of a pack's scored tokens, at least float32; arguments as of `Policy.forward`."""
        hidden = [policy.hidden_states(input_ids, position_ids, layout)[rows] for policy in (self.right, self.wrong)]
        found = []
        for start in range(0, len(rows), self.chunk_tokens):
            part = slice(start, start + self.chunk_tokens)
            right, wrong = (
                head_logits(policy, states[part])
                for policy, states in zip((self.right, self.wrong), hidden, strict=True)
            )
            found.append(contrast_scores(right, wrong, targets[part], self.beta))
        return torch.cat(found)
