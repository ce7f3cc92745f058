"""Tokens scored by two models: the published numbers, what is scored from packs, and that no weight becomes 0."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_models import VOCABULARY, tiny_model

from redi_ray.errors import UserError
from redi_ray.modeling.contrast import MOST, Contrast, contrast_scores
from redi_ray.modeling.policy import Policy
from redi_ray.train.token_scores import by_contrast, score_tokens

CPU = torch.device("cpu")


def of(right: list[float], wrong: list[float], beta: float = 1.0) -> list[float]:
    """s of every token of a vocabulary of three, of the models' probabilities."""
    logits = [
        torch.tensor([values] * 3, dtype=torch.float64).log() + shift for values, shift in ((right, 3.0), (wrong, -7.0))
    ]
    return contrast_scores(*logits, torch.arange(3), beta).tolist()


def test_golden_numbers():
    """SYSTEMS.md, section 4: normalised over the vocabulary, whatever each model's own constant is. Two equal models give their
    own probabilities; the two swapped give others."""
    right, wrong = [0.6, 0.3, 0.1], [0.2, 0.7, 0.1]
    raw = np.array(right) ** 2 / np.array(wrong)
    assert of(right, wrong) == pytest.approx(raw / raw.sum(), abs=1e-12)
    assert of(right, wrong) == pytest.approx([0.887324, 0.063380, 0.049296], abs=5e-7)
    assert of(wrong, right) == pytest.approx([0.037037, 0.907407, 0.055556], abs=5e-7)
    assert of(right, right, beta=0.3) == pytest.approx(right, abs=1e-12)


def test_a_token_that_is_sure_keeps_a_weight():
    sure = contrast_scores(torch.tensor([[90.0, 0.0]] * 2), torch.zeros(2, 2), torch.tensor([0, 1]), 1.0)
    assert sure[0].item() == MOST
    assert 1 - np.float32(sure[0].item()) > 0
    assert sure[1].item() > 0


def test_packs_score_what_each_model_says_of_each_sequence():
    """Whatever is packed together, and however many logits are held at a time; the first token has no score."""
    models = [tiny_model(tied=False, seed=seed) for seed in (0, 1)]
    random = np.random.default_rng(0)
    ids = [random.integers(0, VOCABULARY, length).tolist() for length in (9, 4, 17)]
    sequences = []
    for one in ids:
        weights = np.ones(len(one), np.float32)
        weights[:2] = 0
        sequences.append((one, 2, weights))
    expected = []
    for one in ids:
        right, wrong = (model(torch.tensor([one])).logits[0, 1:-1].detach() for model in models)
        expected.append((2 * right - wrong).softmax(1).gather(1, torch.tensor(one[2:])[:, None])[:, 0].numpy())
    for tokens_per_pack, chunk in ((1000, 512), (10, 3)):
        contrast = Contrast(*(Policy(model).eval() for model in models), beta=1.0, chunk_tokens=chunk)
        found = score_tokens(
            by_contrast(contrast), sequences, unscored=MOST, tokens_per_pack=tokens_per_pack, device=CPU
        )
        for scores, wanted in zip(found, expected, strict=True):
            assert scores[2:] == pytest.approx(wanted, rel=1e-5)
            assert (scores[:2] == np.float32(MOST)).all()


def test_models_of_two_vocabularies_are_refused():
    right, wrong = (Policy(tiny_model(seed=seed)).eval() for seed in (0, 1))
    wrong.model.resize_token_embeddings(VOCABULARY + 3)
    with pytest.raises(UserError, match="61 and 64 tokens"):
        Contrast(right, wrong, 1.0, 8)
