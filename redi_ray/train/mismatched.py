"""Mismatched sequences: every prompt with a completion that was written for another group's prompt.

KTO (arXiv 2402.01306, section 4.1) compares each reward with z = KL(policy || reference), estimated from mismatched pairs
(x_i, y_j), and takes j = i + 1 within the batch. Here the partner is fixed once for the data instead, by a random cycle
over all groups. A batch is a random set of groups, so either way y_j is the completion of a random other group and the
estimate has the same distribution; but which groups share a batch depends on seed, epoch and batch size, whereas log-probs
of the reference are computed before training and stored. With fixed partners they are computed once for all arms, seeds
and batch sizes, a batch of a single group has a baseline too, and neither ranks nor micro-batches can change it.
"""

from __future__ import annotations

import numpy as np

from redi_ray.train.sequences import SequenceStore

CYCLE_SEED = 0
"""The same for every run, so that the stored log-probs of the reference serve all of them."""


def partners(store: SequenceStore) -> np.ndarray:
    """`[n]` the sequence whose completion each sequence's prompt gets: that of the same place in the next group of a
    random cycle. Every group is followed by another one. Raises ValueError if there is just one.
    """
    if store.num_groups < 2:
        raise ValueError("a mismatched baseline needs at least two groups: a prompt gets a completion of another group")
    order = np.random.default_rng(CYCLE_SEED).permutation(store.num_groups)
    found = np.empty(len(store), dtype=np.int64)
    for group, following in zip(order.tolist(), np.roll(order, -1).tolist(), strict=True):
        theirs = store.sequences_of_group(following)
        for place, sequence in enumerate(store.sequences_of_group(group)):
            found[sequence] = theirs[place % len(theirs)]
    return found


def mismatched_sequences(store: SequenceStore) -> SequenceStore:
    """The store's prompts with their partners' completions, in the same order, groups and sides; no reference yet.

    A completion keeps its own weights, so that z is taken over the kind of tokens that the rewards are.

    Example: prompts [5 6] and [7], completions [1 2] and [3] -> [5 6 3] and [7 1 2].
    """
    tokens, weights = [], []
    for sequence, partner in enumerate(partners(store).tolist()):
        start, span = int(store.starts[sequence]), store.span(partner)
        prompt = store.tokens[start : start + store.prompt_lengths[sequence]]
        completion = slice(span.start + int(store.prompt_lengths[partner]), span.stop)
        tokens.append(np.concatenate([prompt, store.tokens[completion]]))
        weights.append(np.concatenate([np.zeros(len(prompt), store.weights.dtype), store.weights[completion]]))
        weights[-1][:1] = 0  # nothing predicts the first token
    lengths = np.array([len(ids) for ids in tokens], dtype=np.int64)
    return SequenceStore(
        tokens=np.concatenate(tokens),
        weights=np.concatenate(weights),
        starts=np.cumsum(lengths) - lengths,
        lengths=lengths,
        group=np.asarray(store.group),
        side=np.asarray(store.side),
        prompt_lengths=np.asarray(store.prompt_lengths),
    )
