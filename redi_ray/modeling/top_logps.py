"""What a model says of the next token, as soft targets hold it: its likeliest tokens, and all others together. Forward only."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from redi_ray.modeling.attention import PackLayout
from redi_ray.modeling.fused_softmax import shaped
from redi_ray.modeling.policy import Policy


def head_logits(policy: Policy, hidden: Tensor) -> Tensor:
    """`hidden[N, d]` -> what the softmax is over, `[N, V]`, at least float32."""
    weight, bias = policy.head_weight, policy.head_bias
    logits = F.linear(hidden.to(weight.dtype), weight, bias)
    return shaped(logits.to(torch.promote_types(logits.dtype, torch.float32)), policy.head_scale, policy.head_softcap)


@torch.no_grad()
def top_logps(
    policy: Policy,
    input_ids: Tensor,
    position_ids: Tensor,
    layout: PackLayout,
    rows: Tensor,
    *,
    top_k: int,
    vocabulary: int,
    chunk_tokens: int,
) -> tuple[Tensor, Tensor]:
    """`ids[N, k]` and `logps[N, k + 1]` (nats, the rest last) of a pack's scored rows; arguments as of `Policy.forward`.

    vocabulary: ids from there on are never among the k; embeddings have rows that no token has. chunk_tokens: rows whose logits
    are held at a time.
    """
    hidden = policy.hidden_states(input_ids, position_ids, layout)[rows]
    ids = rows.new_empty(len(rows), top_k)
    logps = torch.empty(len(rows), top_k + 1, dtype=torch.float32, device=rows.device)
    for start in range(0, len(rows), chunk_tokens):
        part = slice(start, start + chunk_tokens)
        logits = head_logits(policy, hidden[part])
        best, ids[part] = logits[:, :vocabulary].topk(top_k, 1)
        rest = logits.scatter_(1, ids[part], -torch.inf).logsumexp(1, keepdim=True)
        outcomes = torch.cat([best, rest], 1)
        logps[part] = outcomes - outcomes.logsumexp(1, keepdim=True)
    return ids, logps
