"""The language-model head and the loss in one: per-token log-probs and their weighted sum without keeping logits.

Every objective's gradient is a signed, token-weighted cross-entropy: with `c_t = d loss / d logp_t`, the loss is (up to
a constant) `sum_t c_t logp_t`, and the gradient with respect to the logits is `c_t (onehot(target_t) - softmax_t)`. Both
are local to a token, so tokens are taken `chunk_tokens` at a time: logits[chunk, V] in one reused buffer, log-softmax in
float32 (float64 when the model is), gradients with respect to hidden states and weight at once. What stays alive is
hidden-sized and weight-sized, never T x V.

    z = hidden @ weight.T;   u = scale * z;   v = softcap * tanh(u / softcap) if softcap else u;   logp = log_softmax(v)

Left out: a bias on the head (`load_policy` refuses such models).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class HeadShape:
    """What an architecture does between the head's product and the softmax, and how much of it is held at a time."""

    chunk_tokens: int = 512
    """Tokens whose logits are held at a time."""
    scale: float = 1.0
    """Factor on the logits (Cohere's `logit_scale`, the inverse of Granite's `logits_scaling`)."""
    softcap: float | None = None
    """Bound of the tanh on the scaled logits (Gemma's `final_logit_softcapping`)."""


class _Logits:
    """The one piece of logits there ever is: `[chunk, V]`, at least float32, and where the weight is half precision a second
    one of its type. Every chunk uses the same memory, which also spares the page faults."""

    def __init__(self, hidden: Tensor, weight: Tensor, head: HeadShape) -> None:
        rows = min(head.chunk_tokens, len(hidden))
        self.weight = weight
        self.full = hidden.new_empty(rows, len(weight), dtype=torch.promote_types(hidden.dtype, torch.float32))
        self.half = None if weight.dtype == self.full.dtype else torch.empty_like(self.full, dtype=weight.dtype)

    def product(self, hidden: Tensor) -> Tensor:
        """`hidden[C, d] @ weight[V, d].T -> [C, V]`, to be changed in place."""
        logits, transposed = self.full[: len(hidden)], self.weight.T
        if self.half is None:
            return torch.mm(hidden, transposed, out=logits)
        if hidden.is_cuda:  # the tensor cores accumulate in float32 anyway: keep that, without a bfloat16 copy
            return torch.mm(hidden, transposed, out_dtype=torch.float32, out=logits)
        return logits.copy_(torch.mm(hidden, transposed, out=self.half[: len(hidden)]))

    def in_weight_dtype(self, logits: Tensor) -> Tensor:
        """The same values in the weight's type, for the products of the gradients."""
        return logits if self.half is None else self.half[: len(logits)].copy_(logits)


def _chunk_logps(logits: Tensor, targets: Tensor, head: HeadShape) -> tuple[Tensor, Tensor | None]:
    """`logits[C, V]` become the softmax in place; returns logps`[C]` and d v / d u `[C, V]` where there is a softcap."""
    if head.scale != 1.0:
        logits.mul_(head.scale)
    slope = None
    if head.softcap is not None:
        logits.div_(head.softcap).tanh_()
        slope = 1 - logits * logits
        logits.mul_(head.softcap)
    picked = logits.gather(1, targets[:, None])[:, 0]
    largest = logits.amax(1, keepdim=True)
    logits.sub_(largest).exp_()
    total = logits.sum(1, keepdim=True)
    logits.div_(total)
    return picked - largest[:, 0] - total[:, 0].log(), slope


@torch.no_grad()
def per_token_logps(hidden: Tensor, weight: Tensor, targets: Tensor, head: HeadShape) -> Tensor:
    """Log-prob of `targets[N]` under `hidden[N, d]` and the head's `weight[V, d]` -> `[N]`, without gradient (nats)."""
    buffer = _Logits(hidden, weight, head)
    out = buffer.full.new_empty(len(targets))
    for start in range(0, len(targets), head.chunk_tokens):
        part = slice(start, start + head.chunk_tokens)
        out[part] = _chunk_logps(buffer.product(hidden[part]), targets[part], head)[0]
    return out


class _WeightedLogps(torch.autograd.Function):
    """`sum_t coefficients_t logp_t`, both gradients computed in the forward pass (see the module's docstring)."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        coefficients: Tensor,
        head: HeadShape,
        grad_weight: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        buffer = _Logits(hidden, weight, head)
        logps = buffer.full.new_empty(len(targets))
        grad_hidden = torch.empty_like(hidden)
        ctx.in_place = grad_weight is not None
        if grad_weight is None and weight.requires_grad:
            grad_weight = torch.zeros_like(weight, dtype=logps.dtype)
        coefficients = coefficients.to(logps.dtype)
        for start in range(0, len(targets), head.chunk_tokens):
            part = slice(start, start + head.chunk_tokens)
            logits, rows = buffer.product(hidden[part]), targets[part]
            logps[part], slope = _chunk_logps(logits, rows, head)
            c = coefficients[part, None]
            logits.mul_(-c).scatter_add_(1, rows[:, None], c)
            if slope is not None:
                logits.mul_(slope)
            if head.scale != 1.0:
                logits.mul_(head.scale)
            grad_logits = buffer.in_weight_dtype(logits)
            torch.mm(grad_logits, weight, out=grad_hidden[part])
            if grad_weight is None:
                continue
            if grad_weight.dtype == grad_logits.dtype:
                grad_weight.addmm_(grad_logits.T, hidden[part])
            else:  # bfloat16 products, summed over chunks in float32
                grad_weight.add_(grad_logits.T @ hidden[part])
        ctx.save_for_backward(grad_hidden, grad_weight if not ctx.in_place else None)
        ctx.mark_non_differentiable(logps)
        return (coefficients * logps).sum(), logps

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        scale = grad_outputs[0]
        if ctx.in_place:
            assert float(scale) == 1.0, f"the weight's gradient is already taken; the loss cannot be scaled by {scale}"
            return grad_hidden, None, None, None, None, None
        if grad_weight is not None:
            grad_weight = grad_weight.mul_(scale)
        return grad_hidden.mul_(scale.to(grad_hidden.dtype)), grad_weight, None, None, None, None


def weighted_logps(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    coefficients: Tensor,
    head: HeadShape,
    *,
    grad_weight: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Weighted sum of log-probs, ready for one `backward()`, and the log-probs themselves.

    Args:
        hidden: `[N, d]` final hidden states of the scored rows only; row n predicts `targets[n]`.
        weight: `[V, d]` the head's weight (a plain tensor: gathered, if it is sharded).
        targets: `[N]` token ids.
        coefficients: `[N]` d loss / d logp of each token, negative where the log-prob should rise.
        head: chunk size, scale and softcap.
        grad_weight: `[V, d]` buffer the weight's gradient is added to at once, instead of being returned through
            autograd (which would hold a second buffer of that size). The loss must then not be scaled.

    Returns: `sum_n coefficients[n] logps[n]` (a scalar with gradient) and `logps[N]` (without).
    """
    return _WeightedLogps.apply(hidden, weight, targets, coefficients, head, grad_weight)
