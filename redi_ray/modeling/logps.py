"""The language-model head and the loss in one: per-token log-probs and their weighted sum without keeping logits.

Every objective's gradient is a signed, token-weighted cross-entropy: with `c_t = d loss / d logp_t`, the loss is (up to
a constant) `sum_t c_t logp_t`, and the gradient with respect to the logits is `c_t (onehot(target_t) - softmax_t)`. Both
are local to a token, so tokens are taken `chunk_tokens` at a time: logits[chunk, V] in one reused buffer, log-softmax in
float32 (float64 when the model is), gradients with respect to hidden states and weight at once. What stays alive is
hidden-sized and weight-sized, never T x V.

Where `c_t` depends on logp_t alone (a loss that is a sum of terms per token) it need not be known beforehand: `local`
gives it when the token's log-prob is there, before the logits are overwritten with their gradient.

    z = hidden @ weight.T + bias;   u = scale * z;   v = softcap * tanh(u / softcap) if softcap else u;   logp = log_softmax(v)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from redi_ray.modeling.fused_softmax import kernels, shaped
from redi_ray.modeling.products import by_float32, by_onednn, matmul
from redi_ray.modeling.pull import Pull
from redi_ray.modeling.soft_targets import SoftTargets

BLOCK_BYTES = 4 << 20
"""Logits that are worked on at a time on a CPU: what its cores keep in their caches."""

PIECE_ROWS = 1024
"""Rows of the weight that are multiplied at a time where a product has to be copied, or added to wider numbers."""

WIDENED_ROWS = 4096
"""The same where what is copied is a piece of the weight."""


Local = Callable[[slice, Tensor], Tensor]
"""Which rows, and their log-probs `[B]` -> what is added to their coefficients `[B]`."""


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
    """The one piece of logits there ever is: `[chunk, V]`. Every chunk uses the same memory, which spares the page faults.

    On a CPU the passes over it (maximum, exp, sum, ...) go block by block of a few rows that stay in the cache, since each
    would fetch the whole chunk from memory. There half-precision products stay in their type, and only a block is widened.
    On a GPU a block is the whole chunk, and the passes are fused into two (`redi_ray.modeling.fused_softmax`). oneDNN's
    products come in memory of their own, so these are made in small pieces; and so are those of a bfloat16 weight that is
    widened, of which there is never more than a piece in float32.
    """

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor | None, head: HeadShape) -> None:
        rows, width = min(head.chunk_tokens, len(hidden)), len(weight)
        self.bias = bias
        self.weight, self.widens = weight, by_float32(hidden[:rows], weight[:PIECE_ROWS])
        self.pieces = by_onednn(hidden[:rows], weight[:PIECE_ROWS])
        self.wide = torch.promote_types(hidden.dtype, torch.float32)
        half = weight.dtype != self.wide
        # the tensor cores accumulate in float32 anyway: keep that, without a bfloat16 copy
        self.chunk = hidden.new_empty(rows, width, dtype=self.wide if hidden.is_cuda or self.widens else weight.dtype)
        self.narrow = torch.empty_like(self.chunk, dtype=weight.dtype) if half and hidden.is_cuda else self.chunk
        self.block_rows = rows if hidden.is_cuda else max(1, BLOCK_BYTES // (width * self.wide.itemsize))
        self.widened = (
            self.chunk.new_empty(self.block_rows, width, dtype=self.wide) if self.chunk.dtype != self.wide else None
        )

    def blocks(self, hidden: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """`hidden[C, d] @ weight[V, d].T` as blocks `[B, V]` of at least float32 with their rows, to be changed in place."""
        chunk, told = self.chunk[: len(hidden)], {} if self.chunk.dtype == hidden.dtype else {"out_dtype": self.wide}
        if self.widens:
            hidden = hidden.float()
            for rows in _pieces(len(self.weight), WIDENED_ROWS):
                torch.mm(hidden, self.weight[rows].float().T, out=chunk[:, rows])
        elif self.pieces:
            for rows in _pieces(len(self.weight)):
                chunk[:, rows] = matmul(hidden, self.weight[rows].T)
        else:
            torch.mm(hidden, self.weight.T, out=chunk, **told)
        for start in range(0, len(hidden), self.block_rows):
            rows = slice(start, min(start + self.block_rows, len(hidden)))
            block = chunk[rows] if self.widened is None else self.widened[: rows.stop - start].copy_(chunk[rows])
            yield rows, block if self.bias is None else block.add_(self.bias)

    def place(self, rows: slice, block: Tensor) -> Tensor:
        """Where the gradient of the block's values is to be: in the weight's type."""
        return block if self.narrow is self.chunk and self.widened is None else self.narrow[rows]

    def backward(self, hidden: Tensor, grad_hidden: Tensor, grad_weight: Tensor | None) -> None:
        """Take the kept values for the gradient of `hidden[C, d]`'s logits: set `grad_hidden[C, d]`, add to `grad_weight`."""
        grad_logits = self.narrow[: len(hidden)]
        if self.widens:
            return self._backward_widened(hidden.float(), grad_hidden, grad_weight)
        if self.pieces:
            grad_hidden.copy_(matmul(grad_logits, self.weight))
        else:
            torch.mm(grad_logits, self.weight, out=grad_hidden)
        if grad_weight is None:
            return
        if grad_weight.dtype == grad_logits.dtype and not self.pieces:
            grad_weight.addmm_(grad_logits.T, hidden)
        elif hidden.is_cuda:  # bfloat16 products, summed in float32
            torch.addmm(grad_weight, grad_logits.T, hidden, out_dtype=grad_weight.dtype, out=grad_weight)
        else:
            for rows in _pieces(len(grad_weight)):
                grad_weight[rows].add_(matmul(grad_logits[:, rows].T, hidden))

    def _backward_widened(self, hidden: Tensor, grad_hidden: Tensor, grad_weight: Tensor | None) -> None:
        """The same in float32, `hidden` too, the weight a piece at a time."""
        grad_logits, total = self.narrow[: len(hidden)], torch.zeros_like(hidden)
        for rows in _pieces(len(self.weight), WIDENED_ROWS):
            total.addmm_(grad_logits[:, rows], self.weight[rows].float())
            if grad_weight is not None and grad_weight.dtype == hidden.dtype:
                grad_weight[rows].addmm_(grad_logits[:, rows].T, hidden)
            elif grad_weight is not None:
                grad_weight[rows].add_(grad_logits[:, rows].T @ hidden)
        grad_hidden.copy_(total)


def _pieces(rows: int, size: int = PIECE_ROWS) -> Iterator[slice]:
    """Slices of the weight's rows for products that come in memory of their own: small enough to get the same again."""
    return (slice(start, start + size) for start in range(0, rows, size))


def _softmax_terms(logits: Tensor, targets: Tensor, head: HeadShape) -> tuple[Tensor, Tensor, Tensor | None]:
    """`logits[B, V]` become exp(v - max) in place; returns logps`[B]`, their sums`[B, 1]`, and d v / d u `[B, V]` where there is
    a softcap."""
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
    return picked - largest[:, 0] - total[:, 0].log(), total, slope


def _weigh(
    logits: Tensor,
    targets: Tensor,
    coefficients: Tensor,
    head: HeadShape,
    local: Local | None,
    rows: slice,
    out: Tensor,
    soft: SoftTargets | None,
) -> Tensor:
    """Write the gradient of `sum c[B] * logps[B]` with respect to `logits[B, V]`, which are used up, into `out[B, V]`; c are the
    coefficients and what `local` adds to those of these rows. That of the divergences from `soft` targets is in it. Returns
    logps`[B]`."""

    def summed(logps: Tensor) -> Tensor:
        return coefficients if local is None else coefficients + local(rows, logps)

    if soft is not None:
        return soft.weigh(logits, targets, summed, rows, out, head.scale, head.softcap)
    if logits.is_cuda:
        log_sums, gradient = kernels(logits.device)
        sums, picked = log_sums(logits, head.scale, head.softcap), logits.gather(1, targets[:, None])
        logps = (shaped(picked, head.scale, head.softcap) - sums)[:, 0]
        c = summed(logps)
        gradient(logits, sums, picked, targets[:, None], c[:, None], out, head.scale, head.softcap)
        return logps
    logps, total, slope = _softmax_terms(logits, targets, head)
    c = summed(logps)[:, None]
    logits.mul_(-c / total).scatter_add_(1, targets[:, None], c)
    if slope is not None:
        logits.mul_(slope)
    if head.scale != 1.0:
        logits.mul_(head.scale)
    if out.data_ptr() != logits.data_ptr():
        out.copy_(logits)
    return logps


@torch.no_grad()
def per_token_logps(
    hidden: Tensor, weight: Tensor, targets: Tensor, head: HeadShape, bias: Tensor | None = None
) -> Tensor:
    """Log-prob of `targets[N]` under `hidden[N, d]` and the head's `weight[V, d]` -> `[N]`, without gradient (nats)."""
    buffer = _Logits(hidden, weight, bias, head)
    out = hidden.new_empty(len(targets), dtype=buffer.wide)
    for start in range(0, len(targets), head.chunk_tokens):
        part = slice(start, start + head.chunk_tokens)
        for rows, logits in buffer.blocks(hidden[part]):
            out[part][rows] = _softmax_terms(logits, targets[part][rows], head)[0]
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
        bias: Tensor | None,
        local: Local | None,
        pull: Pull | None,
        soft: SoftTargets | None,
    ) -> tuple[Tensor, Tensor]:
        buffer = _Logits(hidden, weight, bias, head)
        logps = hidden.new_empty(len(targets), dtype=buffer.wide)
        grad_hidden = torch.empty_like(hidden)
        ctx.in_place = grad_weight is not None
        if grad_weight is None and weight.requires_grad:
            grad_weight = torch.zeros_like(weight, dtype=logps.dtype)
        grad_bias = torch.zeros_like(bias, dtype=logps.dtype) if bias is not None and bias.requires_grad else None
        coefficients = coefficients.to(logps.dtype)
        for start in range(0, len(targets), head.chunk_tokens):
            part = slice(start, start + head.chunk_tokens)
            for rows, logits in buffer.blocks(hidden[part]):
                c, out = coefficients[part][rows], buffer.place(rows, logits)
                whole = slice(start + rows.start, start + rows.stop)
                pulled = None if pull is None else pull.gradient(logits, whole, head.scale, head.softcap)
                logps[part][rows] = _weigh(logits, targets[part][rows], c, head, local, whole, out, soft)
                if grad_bias is not None:
                    grad_bias.add_((out if logits.is_cuda else logits).sum(0, dtype=grad_bias.dtype))
                if pulled is not None:
                    out.add_(pulled)
                    if grad_bias is not None:
                        grad_bias.add_(pulled.sum(0, dtype=grad_bias.dtype))
            buffer.backward(hidden[part], grad_hidden[part], grad_weight)
        ctx.save_for_backward(grad_hidden, grad_weight if not ctx.in_place else None, grad_bias)
        ctx.mark_non_differentiable(logps)
        return (coefficients * logps).sum(), logps

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight, grad_bias = ctx.saved_tensors
        scale = grad_outputs[0]
        if ctx.in_place:
            assert float(scale) == 1.0, f"the weight's gradient is already taken; the loss cannot be scaled by {scale}"
            return grad_hidden, None, None, None, None, None, grad_bias, None, None, None
        if grad_weight is not None:
            grad_weight = grad_weight.mul_(scale)
        if grad_bias is not None:
            grad_bias = grad_bias.mul_(scale)
        grad_hidden.mul_(scale.to(grad_hidden.dtype))
        return grad_hidden, grad_weight, None, None, None, None, grad_bias, None, None, None


def weighted_logps(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    coefficients: Tensor,
    head: HeadShape,
    *,
    grad_weight: Tensor | None = None,
    bias: Tensor | None = None,
    local: Local | None = None,
    pull: Pull | None = None,
    soft: SoftTargets | None = None,
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
        bias: `[V]` the head's, or None.
        local: derivatives of a sum of terms that read one log-prob each; called once for every row, some at a time.
        pull: a divergence from another model over the whole vocabulary, whose gradient is added.
        soft: divergences from a teacher's distributions, whose gradient is added.

    Returns: `sum_n coefficients[n] logps[n]` (a scalar with gradient, that of the local terms in it) and `logps[N]`
    (without). The local terms themselves are not in the scalar's value: whoever has them takes them of `logps`; those of
    `pull` and `soft` are left there.
    """
    return _WeightedLogps.apply(hidden, weight, targets, coefficients, head, grad_weight, bias, local, pull, soft)
