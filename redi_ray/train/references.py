"""Log-probs of a frozen reference model over stored sequences: forward only, packed, by the kernel that trains."""

from __future__ import annotations

import numpy as np
import torch

from redi_ray.modeling.policy import Policy
from redi_ray.train.batches import Pack, first_fit_decreasing
from redi_ray.train.packs import pack_tensors, run_pack
from redi_ray.train.sequences import SequenceStore


def reference_logps(
    policy: Policy,
    store: SequenceStore,
    sequences: np.ndarray,
    *,
    tokens_per_pack: int,
    chunk_tokens: int,
    device: torch.device | None = None,
    positions: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """`(index[M], logps[M])`: log-probs (nats, float32) of every scored token, at its index in the store's flat arrays.

    sequences: `[n]` which of the store's sequences to score. The policy is on `device` and in eval mode.
    positions: what lies beyond them is left out, as training drops or cuts it.
    """
    device = device or torch.device("cpu")
    lengths = np.minimum(store.lengths, positions) if positions is not None else store.lengths
    indices, values = [], []
    for members in first_fit_decreasing(lengths[sequences], tokens_per_pack):
        chosen = sequences[members]
        pack, part = Pack(tuple(int(i) for i in chosen), int(lengths[chosen].sum())), store
        if (lengths[chosen] < store.lengths[chosen]).any():
            part = store.select(chosen, lengths[chosen])
            pack = Pack(tuple(range(len(chosen))), pack.tokens)
        tensors = pack_tensors(part, pack, None, device)
        with torch.no_grad():
            _, logps = run_pack(policy, tensors, None, chunk_tokens)
        flat = np.concatenate([np.arange(store.starts[i], store.starts[i] + lengths[i]) for i in chosen])
        indices.append(flat[tensors.rows.cpu().numpy() + 1])
        values.append(logps.float().cpu().numpy())
    return np.concatenate(indices), np.concatenate(values)
