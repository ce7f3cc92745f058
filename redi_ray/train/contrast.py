"""Sequences scored by two models (`redi_ray.modeling.contrast`): forward only, packed as in training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from redi_ray.modeling.contrast import MOST, Contrast
from redi_ray.train.batches import Pack, first_fit_decreasing
from redi_ray.train.packs import pack_tensors
from redi_ray.train.records import SequenceRecord
from redi_ray.train.sequences import SequenceStore


def score_tokens(
    contrast: Contrast,
    sequences: Sequence[tuple[Sequence[int], int, np.ndarray]],
    *,
    tokens_per_pack: int,
    device: torch.device,
) -> list[np.ndarray]:
    """s `[T]` float32 of each sequence, 1 - 2^-24 where its token is not scored.

    sequences: token ids, how many of them are the prompt, and `[T]` weights, 0 where a token is not scored. The first token of
    all has no score, since nothing predicts it.
    """
    records = [
        SequenceRecord(n, 1, ids, prompt, weights.tolist()) for n, (ids, prompt, weights) in enumerate(sequences)
    ]
    store = SequenceStore.from_records(records)
    flat = np.full(len(store.tokens), MOST, np.float32)
    for members in first_fit_decreasing(store.lengths, tokens_per_pack):
        pack = Pack(tuple(int(i) for i in members), int(store.lengths[members].sum()))
        tensors = pack_tensors(store, pack, None, device)
        found = contrast.scores(tensors.input_ids, tensors.position_ids, tensors.layout, tensors.rows, tensors.targets)
        index = np.concatenate([np.arange(store.starts[i], store.starts[i] + store.lengths[i]) for i in members])
        flat[index[tensors.rows.cpu().numpy() + 1]] = found.float().cpu().numpy()
    return [flat[store.span(number)] for number in range(len(store))]
