"""A number or a distribution for each token of sequences, by models that are not trained: forward only, packed as in training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from redi_ray.modeling.contrast import Contrast
from redi_ray.modeling.policy import Policy
from redi_ray.modeling.soft_columns import SoftFormat, blanks, pack
from redi_ray.modeling.top_logps import top_logps
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


Scored = tuple[Sequence[int], int, np.ndarray]
"""Token ids, how many of them are the prompt, and `[T]` weights, 0 where a token is not scored."""


def score_tokens(
    scorer: TokenScorer,
    sequences: Sequence[Scored],
    *,
    unscored: float,
    tokens_per_pack: int,
    device: torch.device,
) -> list[np.ndarray]:
    """The numbers `[T]` float32 of each sequence, `unscored` where a token is not scored. The first token of all has no number,
    since nothing predicts it."""
    store = _store_of(sequences)
    flat = np.full(len(store.tokens), unscored, np.float32)
    for tensors, places in _packs_of(store, tokens_per_pack, device):
        flat[places] = scorer(tensors).float().cpu().numpy()
    return [flat[store.span(number)] for number in range(len(store))]


def score_distributions(
    policy: Policy,
    sequences: Sequence[Scored],
    form: SoftFormat,
    *,
    tokens_per_pack: int,
    chunk_tokens: int,
    device: torch.device,
) -> list[np.ndarray]:
    """The records `[T]` of each sequence (`redi_ray.modeling.soft_columns`): what the model says before each scored token."""
    store = _store_of(sequences)
    flat = blanks(len(store.tokens), form.dtype)
    for tensors, places in _packs_of(store, tokens_per_pack, device):
        ids, logps = top_logps(
            policy,
            tensors.input_ids,
            tensors.position_ids,
            tensors.layout,
            tensors.rows,
            top_k=form.top_k,
            vocabulary=form.vocabulary,
            chunk_tokens=chunk_tokens,
        )
        flat[places] = pack(ids.cpu().numpy(), logps.cpu().numpy(), form)
    return [flat[store.span(number)] for number in range(len(store))]


def _store_of(sequences: Sequence[Scored]) -> SequenceStore:
    return SequenceStore.from_records(
        SequenceRecord(n, 1, ids, prompt, weights.tolist()) for n, (ids, prompt, weights) in enumerate(sequences)
    )


def _packs_of(
    store: SequenceStore, tokens_per_pack: int, device: torch.device
) -> Iterator[tuple[PackTensors, np.ndarray]]:
    """Packs of all sequences, and where their scored tokens lie among all `[N]`."""
    for members in first_fit_decreasing(store.lengths, tokens_per_pack):
        tensors = pack_tensors(
            store, Pack(tuple(int(i) for i in members), int(store.lengths[members].sum())), None, device
        )
        index = np.concatenate([np.arange(store.starts[i], store.starts[i] + store.lengths[i]) for i in members])
        yield tensors, index[tensors.rows.cpu().numpy() + 1]
