"""Attention inside packs: what kernels share, and what they are told."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from redi_ray.modeling import attention
from redi_ray.modeling.attention import Scores, pack_layout, packed_attention

LENGTHS = [30, 30, 17, 4]


def heads(query_heads: int = 4, kv_heads: int = 2, value_size: int = 8) -> list[Tensor]:
    torch.manual_seed(0)
    sizes = ((query_heads, 8), (kv_heads, 8), (kv_heads, value_size))
    return [torch.randn(1, h, sum(LENGTHS), d, dtype=torch.float64, requires_grad=True) for h, d in sizes]


def plain(q: Tensor, k: Tensor, v: Tensor, scores: Scores) -> Tensor:
    """Each sequence alone, the whole matrix of scores at once."""
    outputs = []
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    for part_q, part_k, part_v in zip(*(x.split(LENGTHS, dim=2) for x in (q, k, v)), strict=True):
        raw = part_q @ part_k.transpose(-1, -2) * scores.scale
        if scores.softcap is not None:
            raw = scores.softcap * torch.tanh(raw / scores.softcap)
        distance = torch.arange(raw.shape[-1])[:, None] - torch.arange(raw.shape[-1])
        raw = raw.masked_fill((distance < 0) | (distance >= (scores.window or 99)), -torch.inf).exp()
        total = raw.sum(-1, keepdim=True)
        if scores.sinks is not None:
            total = total + scores.sinks.exp()[None, :, None, None]
        outputs.append((raw / total) @ part_v)
    return torch.cat(outputs, dim=2).transpose(1, 2)


@pytest.mark.parametrize("block", [5, 512])
@pytest.mark.parametrize(
    ("window", "softcap", "sinks"),
    [(None, 1.5, False), (7, 1.5, False), (None, None, True), (7, None, True), (7, 1.5, True), (7, None, False)],
)
def test_scores_in_blocks(monkeypatch, block, window, softcap, sinks):
    """Softcap, sinks and windows, values and all gradients; more and less than one block of queries."""
    monkeypatch.setattr(attention, "QUERY_BLOCK", block)
    inputs, sink = heads(value_size=6), torch.randn(4, dtype=torch.float64, requires_grad=True)
    used = sink if sinks else None
    leaves = [*inputs, *([sink] if sinks else [])]
    module = torch.nn.Module()
    ours, _ = packed_attention(
        module, *inputs, None, sliding_window=window, softcap=softcap, s_aux=used, pack_layout=pack_layout(LENGTHS)
    )
    theirs = plain(*inputs, Scores(8**-0.5, window, softcap, used))
    torch.testing.assert_close(ours, theirs)
    weights = torch.randn_like(theirs)
    torch.testing.assert_close(
        torch.autograd.grad((ours * weights).sum(), leaves), torch.autograd.grad((theirs * weights).sum(), leaves)
    )


@pytest.mark.parametrize("knows_groups", [True, False])
def test_flash_gets_repeated_heads_where_it_knows_no_groups(monkeypatch, knows_groups):
    """torch before 2.13: its kernel, here a stand-in with the same signature, refuses fewer key heads than query heads."""

    def kernel(q, k, v, cu_q, cu_k, max_q, max_k, *, scale, window_size, enable_gqa=False):
        assert (max_q, max_k, window_size) == (30, 30, (-1, 0))
        if not knows_groups:
            assert q.shape == k.shape
            assert not enable_gqa
        outputs = [
            scaled_dot_product_attention(*(x[a:b].transpose(0, 1) for x in (q, k, v)), is_causal=True, scale=scale,
                                         enable_gqa=enable_gqa)
            for a, b in zip(cu_q[:-1].tolist(), cu_k[1:].tolist(), strict=True)
        ]  # fmt: skip
        return torch.cat(outputs, dim=1).transpose(0, 1)

    monkeypatch.setattr(attention, "varlen_attn", kernel)
    monkeypatch.setattr(attention, "VARLEN_GROUPS", knows_groups)
    inputs, scores = heads(), Scores(8**-0.5)
    torch.testing.assert_close(attention._flash(*inputs, pack_layout(LENGTHS), scores), plain(*inputs, scores))


@pytest.mark.parametrize("argument", [{"position_bias": 1}, {"indices": 1}, {"is_causal": False}])
def test_arguments_that_are_not_known_are_refused(argument):
    with pytest.raises(ValueError, match="cannot be packed"):
        packed_attention(torch.nn.Module(), *heads(), None, pack_layout=pack_layout(LENGTHS), **argument)
