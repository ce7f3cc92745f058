"""Log-probs of a frozen reference model over stored sequences: forward only, packed, by the kernel that trains."""

from __future__ import annotations

import numpy as np
import torch

from redi_ray.modeling.policy import Policy
from redi_ray.train.batches import Pack, first_fit_decreasing
from redi_ray.train.sequences import SequenceStore
from redi_ray.train.step import pack_tensors, run_pack


def reference_logps(
    policy: Policy,
    store: SequenceStore,
    sequences: np.ndarray,
    *,
    tokens_per_pack: int,
    chunk_tokens: int,
    device: torch.device | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """`(index[M], logps[M])`: log-probs (nats, float32) of every scored token, at its index in the store's flat arrays.

    sequences: `[n]` which of the store's sequences to score. The policy is on `device` and in eval mode.
    """
    device = device or torch.device("cpu")
    indices, values = [], []
    for members in first_fit_decreasing(store.lengths[sequences], tokens_per_pack):
        chosen = sequences[members]
        pack = Pack(tuple(int(i) for i in chosen), int(store.lengths[chosen].sum()))
        tensors = pack_tensors(store, pack, {}, device)
        with torch.no_grad():
            _, logps = run_pack(policy, tensors, None, chunk_tokens)
        flat = np.concatenate([np.arange(store.offsets[i], store.offsets[i + 1]) for i in chosen])
        indices.append(flat[tensors.rows.cpu().numpy() + 1])
        values.append(logps.float().cpu().numpy())
    return np.concatenate(indices), np.concatenate(values)
