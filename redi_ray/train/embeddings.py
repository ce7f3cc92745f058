"""Embeddings of texts by a causal language model: the mean of a text's last hidden states, over packs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from redi_ray.modeling.attention import pack_layout
from redi_ray.modeling.policy import Policy
from redi_ray.train.batches import first_fit_decreasing


@torch.no_grad()
def mean_hidden(
    policy: Policy, texts: Sequence[Sequence[int]], *, tokens_per_pack: int, device: torch.device | None = None
) -> NDArray[np.floating]:
    """`[n, d]` float32, or float64 of such a policy: of each text, token ids read by themselves, the mean over its tokens of the
    decoder's last hidden states, divided by its length, so that the product of two is their cosine.

    The policy is on `device` and in eval mode. Raises ValueError for a text without tokens.
    """
    if not all(texts):
        raise ValueError("a text without tokens has no embedding")
    device = device or torch.device("cpu")
    found: list[torch.Tensor | None] = [None] * len(texts)
    for members in first_fit_decreasing(np.array([len(ids) for ids in texts], np.int64), tokens_per_pack):
        lengths = [len(texts[at]) for at in members]
        ids = torch.tensor([token for at in members for token in texts[at]], device=device)
        positions = torch.cat([torch.arange(length, device=device) for length in lengths])
        hidden = policy.hidden_states(ids, positions, pack_layout(lengths).to(device))
        for at, states in zip(members, hidden[: len(ids)].split(lengths), strict=True):
            found[at] = states.to(torch.promote_types(states.dtype, torch.float32)).mean(0).cpu()
    means = torch.stack([mean for mean in found if mean is not None]).numpy()
    return means / np.linalg.norm(means, axis=1, keepdims=True)
