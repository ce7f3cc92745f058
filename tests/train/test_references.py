"""Reference log-probs are those of the plain model, token by token, and fill exactly the scored positions."""

from __future__ import annotations

import numpy as np
import torch
from tiny_models import tiny_policy, tiny_store

from redi_ray.train.references import reference_logps


def test_equal_to_a_plain_forward_pass_one_sequence_at_a_time():
    policy, store = tiny_policy().eval(), tiny_store(num_pairs=5, reference=False)
    index, logps = reference_logps(policy, store, np.arange(2, 9), tokens_per_pack=64, chunk_tokens=7)
    expected = {}
    for sequence in range(2, 9):
        span = store.span(sequence)
        ids = torch.from_numpy(store.tokens[span].astype(np.int64))
        alone, other = reference_logps(policy, store, np.array([sequence]), tokens_per_pack=10_000, chunk_tokens=1000)
        with torch.no_grad():
            hidden = policy.model.model(input_ids=ids[None], attention_mask=None).last_hidden_state[0]
            plain = torch.log_softmax(hidden @ policy.head_weight.T, -1)[:-1].gather(1, ids[1:, None])[:, 0]
        for position in np.flatnonzero(store.weights[span]):
            expected[span.start + position] = plain[position - 1].item()
        np.testing.assert_allclose(other, [expected[i] for i in alone], rtol=1e-5)
    assert sorted(index.tolist()) == sorted(expected)
    np.testing.assert_allclose(logps, [expected[i] for i in index.tolist()], rtol=1e-5)


def test_beyond_the_models_positions_nothing_is_scored():
    """Each sequence is cut there, the rest as if it were whole: where it was short enough, the very same numbers."""
    policy, store = tiny_policy().eval(), tiny_store(num_pairs=5, reference=False)
    every, options = np.arange(len(store)), {"tokens_per_pack": 64, "chunk_tokens": 7}
    index, logps = reference_logps(policy, store, every, positions=12, **options)
    whole = dict(zip(*(found.tolist() for found in reference_logps(policy, store, every, **options)), strict=True))
    place = np.arange(len(store.tokens)) - np.repeat(store.starts, store.lengths)
    assert sorted(index.tolist()) == np.flatnonzero(store.weights.astype(bool) & (place < 12)).tolist()
    assert store.lengths.max() > 12 > store.lengths.min()
    np.testing.assert_allclose(logps, [whole[i] for i in index.tolist()], rtol=1e-5)
