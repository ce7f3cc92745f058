"""Causal attention inside packs: sequences laid end to end in one row, none seeing another.

Registered with transformers' attention interface as `packed`; `Policy` hands the `PackLayout` down through the model's
keyword arguments. Called without one (plain use of the model, `generate`), it is transformers' own SDPA.

On GPU with half precision, torch's variable-length flash attention takes the borders as they are, unless a pack is of a few
long sequences and that kernel knows no grouped heads. Everywhere else sequences of similar length go into one batched SDPA
call: right padding is harmless under a causal mask, since no real query looks that far, and a call per sequence would cost
more than the work for the short sequences of small models.
Scores that are soft-capped, or share their softmax with a sink, are made here, a block of queries at a time.
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from redi_ray.modeling.products import is_slow

try:  # for half precision on GPU; torch 2.13 brought grouped heads into its signature
    from torch.nn.attention.varlen import varlen_attn

    HAS_VARLEN, VARLEN_GROUPS = True, "enable_gqa" in inspect.signature(varlen_attn).parameters
except ImportError:
    HAS_VARLEN = VARLEN_GROUPS = False

log = logging.getLogger("redi_ray")
NAME = "packed"
WIDEST_FLASH_HEAD = 256
QUERY_BLOCK = 512
"""Queries whose scores are held at a time where they are made here; they are made again in the backward pass."""
HARMLESS = frozenset(
    [
        "position_ids",
        "use_cache",
        "output_attentions",
        "output_hidden_states",
        "return_dict",
        "output_router_logits",
        "is_causal",
    ]
)
"""Keyword arguments of attention functions that change nothing in a pack; any other, if set, is refused."""
CALL_COST_TOKENS2 = 8192
"""Padding (in query-key products of one head) that costs as much as one more SDPA call. Measured on CPU."""


LONG_BUCKET_TOKENS = 8192
"""Tokens of a bucket from which on a GPU an SDPA call on grouped heads beats variable-length attention on repeated ones: 34,300
to 30,500 tokens/s of a whole training at 16,384, 13,300 to 14,800 at 4,096. Measured on an H200 with 12 heads in 2 groups."""


@dataclass(frozen=True)
class Bucket:
    """Neighbouring sequences of the pack that share one SDPA call: `rows` of them, padded to `length`."""

    start: int
    """Where the bucket begins in the padded row."""
    rows: int
    length: int


@dataclass(eq=False)  # of a frozen one torch.compile reads every field, and compiles again for every other pack
class PackLayout:
    """Borders of a pack's sequences, and how its tokens are laid out for batched attention. Not to be changed."""

    lengths: tuple[int, ...]
    """Of the sequences, in their order."""
    calls: int
    """Forward passes of the decoder that a policy which takes sequences one by one makes: at least one per sequence."""
    cu_lengths: Tensor
    """`[n + 1]` int32, where each sequence begins, and the end."""
    longest: int
    buckets: tuple[Bucket, ...]
    gather: Tensor | None
    """`[S]` token of each slot of the padded row (any valid one where the slot is padding); None if nothing is padded."""
    scatter: Tensor | None
    """`[T]` slot of each token."""

    def to(self, device: torch.device | str) -> PackLayout:
        gather, scatter = (t if t is None else t.to(device, non_blocking=True) for t in (self.gather, self.scatter))
        return replace(self, cu_lengths=self.cu_lengths.to(device), gather=gather, scatter=scatter)


def pack_layout(lengths: Sequence[int], calls: int = 0) -> PackLayout:
    """The layout of sequences of these lengths. Buckets are best when lengths are sorted, longest first.

    A sequence joins the bucket before it if the padding this adds costs less than a call of its own. `calls`: what ranks
    that work together have agreed on, where it is more than one per sequence.
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
    known = (tuple(lengths), max(calls, len(lengths)), cu_lengths, max(lengths), tuple(buckets))
    if start == total:
        return PackLayout(*known, None, None)
    scatter = np.concatenate(slots)
    gather = np.zeros(start, dtype=np.int64)
    gather[scatter] = np.arange(total)
    return PackLayout(*known, torch.from_numpy(gather), torch.from_numpy(scatter))


class _Pad(torch.autograd.Function):
    """`x[.., T, D] -> [.., S, D]`. Padding slots hold some token's values; they receive no gradient, so none is summed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gather: Tensor, scatter: Tensor) -> Tensor:
        ctx.save_for_backward(scatter)
        return x.index_select(-2, gather)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return grads[0].index_select(-2, ctx.saved_tensors[0]), None, None


@dataclass(frozen=True)
class Scores:
    """How attention scores become weights."""

    scale: float
    window: int | None = None
    """Tokens that a query sees, itself included; None is all before it."""
    softcap: float | None = None
    """Bound of the tanh on the scaled scores (Gemma 2)."""
    sinks: Tensor | None = None
    """`[H]` a score per head that takes part in the softmax and has no value (gpt-oss)."""
    dropout: float = 0.0

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Causal attention: `q[B, H, L, D]`, `k` and `v[B, Hkv, L, D]` -> `[B, H, L, Dv]`."""
        length = q.shape[2]
        if self.softcap is not None or self.sinks is not None:
            blocks = [
                checkpoint(self._block, q[:, :, start : start + QUERY_BLOCK], k, v, start, use_reentrant=False)
                for start in range(0, length, QUERY_BLOCK)
            ]
            return torch.cat(blocks, dim=2)
        grouped: dict[str, Any] = {
            "scale": self.scale,
            "dropout_p": self.dropout,
            "enable_gqa": q.shape[1] != k.shape[1],
        }
        if self.window is None or length <= self.window:
            return scaled_dot_product_attention(q, k, v, is_causal=True, **grouped)
        return scaled_dot_product_attention(q, k, v, self._seen(0, length, 0, length, q.device), **grouped)

    def _seen(self, start: int, stop: int, first: int, last: int, device: torch.device) -> Tensor:
        """Which of the keys `first` to `last` the queries `start` to `stop` see, `[queries, keys]`."""
        distance = torch.arange(start, stop, device=device)[:, None] - torch.arange(first, last, device=device)
        return (distance >= 0) & (distance < (self.window or stop))

    def _block(self, q: Tensor, k: Tensor, v: Tensor, start: int) -> Tensor:
        """The queries from `start` on, `q[B, H, C, D]` -> `[B, H, C, Dv]`."""
        stop = start + q.shape[2]
        first = 0 if self.window is None else max(0, start - self.window + 1)
        k, v = k[:, :, first:stop], v[:, :, first:stop]
        q = q.unflatten(1, (k.shape[1], -1))
        scores = torch.einsum("bhgqd,bhkd->bhgqk", q, k) * self.scale
        if self.softcap is not None:
            scores = torch.tanh(scores / self.softcap) * self.softcap
        scores = scores.masked_fill(~self._seen(start, stop, first, stop, q.device), -torch.inf).flatten(1, 2)
        wide = torch.promote_types(scores.dtype, torch.float32)
        if self.sinks is not None:
            sinks = self.sinks.to(scores.dtype)[None, :, None, None].expand(*scores.shape[:3], 1)
            weights = torch.cat([scores, sinks], dim=-1).softmax(-1, dtype=wide)[..., :-1]
        else:
            weights = scores.softmax(-1, dtype=wide)
        weights = torch.dropout(weights.to(v.dtype), self.dropout, train=self.dropout > 0)
        return torch.einsum("bhgqk,bhkd->bhgqd", weights.unflatten(1, (v.shape[1], -1)), v).flatten(1, 2)


def _bucketed(query: Tensor, key: Tensor, value: Tensor, layout: PackLayout, scores: Scores) -> Tensor:
    """`query[1, H, T, D]`, `key` and `value[1, Hkv, T, D]` -> `[1, T, H, D]`, one call per bucket."""
    heads = [query[0], key[0], value[0]]
    if layout.gather is not None:
        heads = [_Pad.apply(x, layout.gather, layout.scatter) for x in heads]
    sizes, outputs = [bucket.rows * bucket.length for bucket in layout.buckets], []
    for bucket, *parts in zip(layout.buckets, *(x.split(sizes, dim=1) for x in heads), strict=True):
        # [H, rows * length, D] -> [rows, H, length, D]
        out = scores.attend(*(x.unflatten(1, (bucket.rows, bucket.length)).transpose(0, 1) for x in parts))
        outputs.append(out.transpose(1, 2).flatten(0, 1))
    output = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    return (output if layout.scatter is None else output.index_select(0, layout.scatter))[None]


def _flash(query: Tensor, key: Tensor, value: Tensor, layout: PackLayout, scores: Scores) -> Tensor:
    """The same by torch's variable-length attention."""
    cu, longest = layout.cu_lengths, layout.longest
    groups = query.shape[1] // key.shape[1]
    grouped: dict[str, Any] = {"enable_gqa": groups > 1} if VARLEN_GROUPS else {}
    if groups > 1 and not VARLEN_GROUPS:
        key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    window = (-1 if scores.window is None else scores.window - 1, 0)
    output = varlen_attn(q, k, v, cu, cu, longest, longest, scale=scores.scale, window_size=window, **grouped)
    assert isinstance(output, Tensor)
    return output[None]


def takes_flash(query: Tensor, key: Tensor, value: Tensor, layout: PackLayout, scores: Scores) -> bool:
    """Whether torch's variable-length attention computes this, and nothing faster does."""
    width = query.shape[-1]
    repeats = query.shape[1] != key.shape[1] and not VARLEN_GROUPS
    long = layout.gather is None and query.shape[2] >= LONG_BUCKET_TOKENS * len(layout.buckets)
    return (
        HAS_VARLEN
        and not (repeats and long)
        and query.is_cuda
        and query.dtype in (torch.bfloat16, torch.float16)
        and width == value.shape[-1] <= WIDEST_FLASH_HEAD
        and width % 8 == 0
        and not scores.dropout
        and scores.softcap is None
        and scores.sinks is None
    )


@cache
def tell(kernel: str) -> None:
    """Log once which attention runs."""
    log.info("attention over packs: %s", kernel)


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
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    pack_layout: PackLayout | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: `query[1, H, T, D]` -> `[1, T, H, D]`. Raises ValueError for what it lacks."""
    if pack_layout is None:
        if softcap is not None or s_aux is not None:
            special = {"scaling": scaling, "softcap": softcap, "s_aux": s_aux, "dropout": dropout}
            return _eager(module, query, key, value, attention_mask, **special, **kwargs)
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    if kwargs.get("is_causal") is False:
        raise ValueError(f"{type(module).__name__}: attention that looks ahead cannot be packed")
    if unknown := sorted(name for name, given in kwargs.items() if given is not None and name not in HARMLESS):
        raise ValueError(f"{type(module).__name__}: attention with {', '.join(unknown)} cannot be packed")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = Scores(scale, sliding_window, softcap, s_aux, dropout)
    if takes_flash(query, key, value, pack_layout, scores):
        tell(f"flash, variable lengths{'' if VARLEN_GROUPS else ', repeated heads'}")
        return _flash(query, key, value, pack_layout, scores), None
    tell("own blocks of queries" if softcap is not None or s_aux is not None else "SDPA by buckets of similar length")
    wide = torch.float32 if is_slow(query) else query.dtype
    return _bucketed(query.to(wide), key.to(wide), value.to(wide), pack_layout, scores).to(query.dtype), None


def _eager(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """transformers' plain attention of a module, for scores that its SDPA would not compute; mask as SDPA's: true is seen."""
    seen, keys = query.shape[2], key.shape[2]
    if mask is None:
        mask = torch.ones(seen, keys, dtype=torch.bool, device=query.device).tril(keys - seen)[None, None]
    added = torch.zeros(mask.shape, dtype=query.dtype, device=query.device).masked_fill(
        ~mask, torch.finfo(query.dtype).min
    )
    return vars(sys.modules[type(module).__module__])["eager_attention_forward"](
        module, query, key, value, added, **kwargs
    )


AttentionInterface.register(NAME, packed_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)  # for plain use; packs carry a mask that is returned untouched
