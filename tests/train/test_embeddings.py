"""A text's embedding is the mean of its own last hidden states, whatever lies in its pack."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_models import VOCABULARY, tiny_model

from redi_ray.modeling.policy import Policy
from redi_ray.train.embeddings import mean_hidden


@pytest.mark.parametrize("one_by_one", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_the_mean_of_the_models_own_states(tied: bool, one_by_one: bool) -> None:
    model = tiny_model(tied)
    policy = Policy(model, one_by_one=one_by_one).eval()
    draw = np.random.default_rng(0)
    texts = [draw.integers(0, VOCABULARY, length).tolist() for length in (5, 1, 17, 3, 17)]
    alone = []
    with torch.no_grad():
        for ids in texts:
            states = model.model(input_ids=torch.tensor([ids]), use_cache=False).last_hidden_state[0]
            mean = states.mean(0).numpy()
            alone.append(mean / np.sqrt((mean**2).sum()))
    for tokens in (1, 20, 1000):
        found = mean_hidden(policy, texts, tokens_per_pack=tokens)
        assert found.dtype == np.float64
        assert np.allclose(found, np.stack(alone), atol=1e-12)
    assert np.allclose((found**2).sum(1), 1)
    with pytest.raises(ValueError, match="without tokens"):
        mean_hidden(policy, [[1], []], tokens_per_pack=10)
