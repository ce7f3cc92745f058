"""Causal attention inside packs: sequences laid end to end in one row, none seeing another.

Registered with transformers' attention interface as `packed`; `Policy` hands the `PackLayout` down through the model's
keyword arguments. Called without one (plain use of the model, `generate`), it is transformers' own SDPA.

On GPU with half precision, torch's variable-length flash attention takes the borders as they are. Everywhere else
sequences of similar length go into one batched SDPA call: right padding is harmless under a causal mask, since no real
query looks that far, and a call per sequence would cost more than the work for the short sequences of small models.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

try:  # torch 2.11 has it for half precision on GPU; grouped heads came into its signature later
    from torch.nn.attention.varlen import varlen_attn

    HAS_VARLEN = "enable_gqa" in inspect.signature(varlen_attn).parameters
except ImportError:
    HAS_VARLEN = False

NAME = "packed"
CALL_COST_TOKENS2 = 8192
"""Padding (in query-key products of one head) that costs as much as one more SDPA call. Measured on CPU."""


@dataclass(frozen=True)
class Bucket:
    """Neighbouring sequences of the pack that share one SDPA call: `rows` of them, padded to `length`."""

    start: int
    """Where the bucket begins in the padded row."""
    rows: int
    length: int


@dataclass(frozen=True)
class PackLayout:
    """Borders of a pack's sequences, and how its tokens are laid out for batched attention."""

    cu_lengths: Tensor
    """`[n + 1]` int32, where each sequence begins, and the end."""
    longest: int
    buckets: tuple[Bucket, ...]
    gather: Tensor | None
    """`[S]` token of each slot of the padded row (any valid one where the slot is padding); None if nothing is padded."""
    scatter: Tensor | None
    """`[T]` slot of each token."""

    def to(self, device: torch.device | str) -> PackLayout:
        moved = (t if t is None else t.to(device, non_blocking=True) for t in (self.gather, self.scatter))
        return PackLayout(self.cu_lengths.to(device), self.longest, self.buckets, *moved)


def pack_layout(lengths: Sequence[int]) -> PackLayout:
    """The layout of sequences of these lengths. Buckets are best when lengths are sorted, longest first.

    A sequence joins the bucket before it if the padding this adds costs less than a call of its own.
    """
    groups: list[list[int]] = []
    for length in lengths:
        widest = groups[-1][0] if groups else 0
        if groups and length <= widest and widest**2 - length**2 <= CALL_COST_TOKENS2:
            groups[-1].append(length)
        else:
            groups.append([length])
    buckets, slots, start = [], [], 0
    for group in groups:
        width = group[0]
        buckets.append(Bucket(start, len(group), width))
        slots += [start + i * width + np.arange(length) for i, length in enumerate(group)]
        start += len(group) * width
    total = sum(lengths)
    cu_lengths = torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    if start == total:
        return PackLayout(cu_lengths, max(lengths), tuple(buckets), None, None)
    scatter = np.concatenate(slots)
    gather = np.zeros(start, dtype=np.int64)
    gather[scatter] = np.arange(total)
    return PackLayout(cu_lengths, max(lengths), tuple(buckets), torch.from_numpy(gather), torch.from_numpy(scatter))


class _Pad(torch.autograd.Function):
    """`x[.., T, D] -> [.., S, D]`. Padding slots hold some token's values; they receive no gradient, so none is summed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gather: Tensor, scatter: Tensor) -> Tensor:
        ctx.save_for_backward(scatter)
        return x.index_select(-2, gather)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return grads[0].index_select(-2, ctx.saved_tensors[0]), None, None


def _bucketed(query: Tensor, key: Tensor, value: Tensor, layout: PackLayout, **sdpa: Any) -> Tensor:
    """`query[1, H, T, D]`, `key` and `value[1, Hkv, T, D]` -> `[1, T, H, D]`, one SDPA call per bucket."""
    window = sdpa.pop("window")
    heads = [query[0], key[0], value[0]]
    if layout.gather is not None:
        heads = [_Pad.apply(x, layout.gather, layout.scatter) for x in heads]
    sizes, outputs = [bucket.rows * bucket.length for bucket in layout.buckets], []
    for bucket, *parts in zip(layout.buckets, *(x.split(sizes, dim=1) for x in heads), strict=True):
        # [H, rows * length, D] -> [rows, H, length, D]
        q, k, v = (x.unflatten(1, (bucket.rows, bucket.length)).transpose(0, 1) for x in parts)
        if window is not None and bucket.length > window:
            position = torch.arange(bucket.length, device=q.device)
            distance = position[:, None] - position
            out = scaled_dot_product_attention(q, k, v, (distance >= 0) & (distance < window), **sdpa)
        else:
            out = scaled_dot_product_attention(q, k, v, is_causal=True, **sdpa)
        outputs.append(out.transpose(1, 2).flatten(0, 1))
    output = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    return (output if layout.scatter is None else output.index_select(0, layout.scatter))[None]


@torch.compiler.disable  # borders differ from pack to pack: tracing them would recompile at every step
def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    pack_layout: PackLayout | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: `query[1, H, T, D]` -> `[1, T, H, D]`. Raises ValueError for what it lacks."""
    if pack_layout is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    for unsupported in ("softcap", "s_aux", "position_bias"):
        if kwargs.get(unsupported) is not None:
            raise ValueError(f"{type(module).__name__}: attention with `{unsupported}` cannot be packed")
    if HAS_VARLEN and query.is_cuda and query.dtype in (torch.bfloat16, torch.float16) and not dropout:
        cu, longest = pack_layout.cu_lengths, pack_layout.longest
        q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
        window = (-1 if sliding_window is None else sliding_window - 1, 0)
        output = varlen_attn(
            q, k, v, cu, cu, longest, longest, scale=scaling, window_size=window, enable_gqa=q.shape[1] != k.shape[1]
        )
        assert isinstance(output, Tensor)
        return output[None], None
    grouped = query.shape[1] != key.shape[1]
    output = _bucketed(
        query, key, value, pack_layout, window=sliding_window, dropout_p=dropout, scale=scaling, enable_gqa=grouped
    )
    return output, None


AttentionInterface.register(NAME, packed_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)  # for plain use; packs carry a mask that is returned untouched
