"""A number for each token of sequences, by models that are not trained: forward only, packed as in training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from redi_ray.modeling.contrast import Contrast
from redi_ray.modeling.policy import Policy
from redi_ray.train.batches import Pack, first_fit_decreasing
from redi_ray.train.packs import PackTensors, pack_tensors, run_pack
from redi_ray.train.records import SequenceRecord
from redi_ray.train.sequences import SequenceStore

TokenScorer = Callable[[PackTensors], Tensor]
"""A pack -> the numbers `[N]` of its scored tokens."""


def by_contrast(contrast: Contrast) -> TokenScorer:
    """What two models say (`redi_ray.modeling.contrast`)."""
    return lambda pack: contrast.scores(pack.input_ids, pack.position_ids, pack.layout, pack.rows, pack.targets)


def by_logps(policy: Policy, chunk_tokens: int) -> TokenScorer:
    """Log-probs (nats) by the kernel that trains. chunk_tokens: scored tokens whose logits are held at a time."""

    def scorer(pack: PackTensors) -> Tensor:
        with torch.no_grad():
            return run_pack(policy, pack, None, chunk_tokens)[1]

    return scorer


def score_tokens(
    scorer: TokenScorer,
    sequences: Sequence[tuple[Sequence[int], int, np.ndarray]],
    *,
    unscored: float,
    tokens_per_pack: int,
    device: torch.device,
) -> list[np.ndarray]:
    """The numbers `[T]` float32 of each sequence, `unscored` where a token is not scored.

    sequences: token ids, how many of them are the prompt, and `[T]` weights, 0 where a token is not scored. The first token of
    all has no number, since nothing predicts it.
    """
    records = [
        SequenceRecord(n, 1, ids, prompt, weights.tolist()) for n, (ids, prompt, weights) in enumerate(sequences)
    ]
    store = SequenceStore.from_records(records)
    flat = np.full(len(store.tokens), unscored, np.float32)
    for members in first_fit_decreasing(store.lengths, tokens_per_pack):
        pack = Pack(tuple(int(i) for i in members), int(store.lengths[members].sum()))
        tensors = pack_tensors(store, pack, None, device)
        index = np.concatenate([np.arange(store.starts[i], store.starts[i] + store.lengths[i]) for i in members])
        flat[index[tensors.rows.cpu().numpy() + 1]] = scorer(tensors).float().cpu().numpy()
    return [flat[store.span(number)] for number in range(len(store))]
