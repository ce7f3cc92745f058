"""The passes over a chunk of logits on a GPU, fused: one reads them for their log-sum-exp, one writes their gradient.

Written as plain torch and compiled, since every pass of its own would fetch a chunk of `[C, V]` from memory, and those
passes together take as long as the head's products. Where nothing can be compiled they run as they stand.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

log = logging.getLogger("redi_ray")


def shaped(logits: Tensor, scale: float, softcap: float | None) -> Tensor:
    """What the softmax is over (`HeadShape`)."""
    z = logits if scale == 1.0 else logits * scale
    return z if softcap is None else torch.tanh(z / softcap) * softcap


def log_sums(logits: Tensor, scale: float, softcap: float | None) -> Tensor:
    """`logits[B, V]` -> the log of the sum of the exponentials `[B, 1]`."""
    return shaped(logits, scale, softcap).logsumexp(1, keepdim=True)


def gradient(
    logits: Tensor,
    sums: Tensor,
    picked: Tensor,
    targets: Tensor,
    coefficients: Tensor,
    out: Tensor,
    scale: float,
    softcap: float | None,
) -> None:
    """Write the gradient of `sum coefficients[B, K] * logps[B, K]` with respect to `logits[B, V]` into `out[B, V]`.

    Args:
        logits: as the product made them; `out` may be the same tensor.
        sums: `[B, 1]` `log_sums` of them.
        picked: `[B, K]` those of the targets, as the product made them.
        targets: `[B, K]` no token twice in a row.
        coefficients: `[B, K]`
        out: of the logits' type or a narrower one.
        scale, softcap: as in `HeadShape`.
    """
    total = coefficients.sum(1, keepdim=True)

    def of(some: Tensor, hot: Tensor | float) -> Tensor:
        z = shaped(some, scale, softcap)
        found = hot - total * (z - sums).exp()
        if softcap is not None:
            found = found * (1 - (z / softcap) ** 2)
        return found if scale == 1.0 else found * scale

    # the targets' own are written over the rest: added in half precision, 1 - p would be lost where p is near 1
    own = of(picked, coefficients).to(out.dtype)
    out.copy_(of(logits, 0.0))
    out.scatter_(1, targets, own)


def shape(logits: Tensor, scale: float, softcap: float | None) -> Tensor:
    """`shaped`, in the memory of `logits`."""
    return logits.copy_(shaped(logits, scale, softcap))


def rest_sums(shaped: Tensor) -> Tensor:
    """`[B, 1]` log of the sum of the exponentials of what is not -inf."""
    return shaped.logsumexp(1, keepdim=True)


def spread(shaped: Tensor, sums: Tensor, factors: Tensor, out: Tensor, scale: float, softcap: float | None) -> None:
    """Write `factors[B, 1]` times the exponentials over their sums `[B, 1]`, times d shaped / d logit, into `out[B, V]`; anything
    where `shaped` is -inf. `out` may be the same tensor, or of a narrower type."""
    found = factors * (shaped - sums.clamp(min=torch.finfo(sums.dtype).min)).exp()
    if softcap is not None:
        found = found * (1 - (shaped / softcap) ** 2)
    out.copy_(found if scale == 1.0 else found * scale)


@cache
def spread_kernels(device: torch.device) -> tuple[Callable[..., Tensor], Callable[..., None], Callable[..., Tensor]]:
    """`rest_sums`, `spread` and `shape`, compiled if that works here."""
    plain = rest_sums, spread, shape
    if kernels(device)[0] is log_sums:
        return plain
    return torch.compile(rest_sums), torch.compile(spread), torch.compile(shape)


@cache
def kernels(device: torch.device) -> tuple[Callable[..., Tensor], Callable[..., None]]:
    """`log_sums` and `gradient`, compiled if that works here."""
    fused = torch.compile(log_sums), torch.compile(gradient)
    try:
        logits, column = torch.zeros(2, 16, device=device), torch.zeros(2, 1, device=device)
        sums = fused[0](logits, 1.0, None)
        fused[1](logits, sums, column, column.long(), column, torch.empty_like(logits, dtype=torch.bfloat16), 1.0, None)
    except Exception as error:  # no Triton, no C compiler, a GPU that is too old: each has an error of its own
        log.warning("the head's passes over the logits stay unfused, since torch.compile fails here: %s", error)
        return log_sums, gradient
    return fused
