"""Objectives on rewards, and divergences from a stored reference: numbers by hand, and where they are REDI."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from test_objectives import examples, gradient, loss, random_scores, scores

from redi_ray.config.objectives import AdvantageObjective, AsymreObjective, DphObjective, RediObjective
from redi_ray.objectives.base import Scores
from redi_ray.objectives.dph import divergence


def test_divergences_by_hand():
    """Values and slopes of f at u = 1/2, 1 and 2; over Q = (.4, .6) and P = (.7, .3) their means under Q are
    KL(Q || P) for k3 and nll, and 2 JS for js; `alpha` runs from the reverse KL to it. All but nll start without a slope."""
    x = torch.log(torch.tensor([0.5, 1, 2]).double()).requires_grad_()
    u, a = x.detach().exp(), 0.2
    expected = {
        "k3": ([0.1931471806, 0, 0.3068528194], u - 1),
        "js": ([0.0849495184, 0, 0.1698990368], u * torch.log(2 * u / (1 + u))),
        "alpha": ([0.1603176406, 0, 0.3681179588], u * (1 - u**-a) / a),
        "nll": ([math.log(2), 0, -math.log(2)], -torch.ones(3).double()),
    }
    for name, (values, slopes) in expected.items():
        found = divergence(x, DphObjective(divergence=name))
        assert found.tolist() == pytest.approx(values, abs=1e-10)
        torch.testing.assert_close(torch.autograd.grad(found.sum(), x)[0], slopes, rtol=1e-12, atol=1e-15)
    p, q = torch.tensor([[0.7, 0.3], [0.4, 0.6]], dtype=torch.float64)

    def mean(**options):
        return (q * divergence(torch.log(p / q), DphObjective(**options))).sum().item()

    assert mean(divergence="k3") == pytest.approx(0.1920419932, abs=1e-10)
    assert mean(divergence="nll") == pytest.approx(0.1920419932, abs=1e-10)
    assert mean(divergence="js") == pytest.approx(0.0924016584, abs=1e-10)
    assert mean(divergence="alpha") == pytest.approx(0.1844463815, abs=1e-10)
    assert mean(divergence="alpha", alpha=1 - 1e-6) == pytest.approx(0.1920419932, abs=1e-6)
    assert mean(divergence="alpha", alpha=1e-6) == pytest.approx(0.1837868974, abs=1e-6)


def rewarded(batch: Scores, right: float, wrong: float) -> Scores:
    return replace(batch, rewards=torch.where(batch.sides > 0, torch.tensor(right).double(), wrong))


def test_rewards_on_pairs_are_redi():
    """AsymRE with rewards 1 and 0 is (1 - V) / 2 of REDI with alpha = V / (1 - V); rewards 1 and -alpha are half of it,
    since REDI's mean is over pairs."""
    batch, v, alpha = random_scores(), 0.4, 0.8
    asymre = AsymreObjective(baseline="constant", shift=v, normalization="sequence_mean")
    plain = AdvantageObjective(baseline="none")
    for ours, settings, redi in (
        (rewarded(batch, 1, 0), asymre, RediObjective(alpha=v / (1 - v))),
        (rewarded(batch, 1, -alpha), plain, RediObjective(alpha=alpha)),
    ):
        scale = 2 / (1 - v) if settings == asymre else 2
        assert scale * loss(settings, ours).item() == pytest.approx(loss(redi, batch).item(), rel=1e-13)
        torch.testing.assert_close(scale * gradient(settings, ours), gradient(redi, batch), rtol=1e-13, atol=0)


def test_advantages_by_hand():
    """Rewards 1, 0, 0, 1 of one problem and 1 of another, one log-prob of -2 each, lengths 1. Mean .5 and 1.

    Leave one out: 1 - 1/3, -2/3; nothing for the lone one. Scaled: .5 / .5. AsymRE with V 0.1 below the mean: .6, -.4, .1.
    """
    ones = torch.ones(5).double()
    batch = replace(
        examples(scores(-2 * ones, ones), slice(None)),
        group=torch.tensor([0, 0, 0, 0, 1]),
        rewards=torch.tensor([1.0, 0, 0, 1, 1]).double(),
    )
    for settings, advantages in (
        (AdvantageObjective(), [2 / 3, -2 / 3, -2 / 3, 2 / 3, 0]),
        (AdvantageObjective(baseline="group_mean"), [0.5, -0.5, -0.5, 0.5, 0]),
        (AdvantageObjective(baseline="group_scaled"), [1, -1, -1, 1, 0]),
        (AdvantageObjective(baseline="none"), [1, 0, 0, 1, 1]),
        (AsymreObjective(), [0.6, -0.4, -0.4, 0.6, 0.1]),
    ):
        assert (gradient(settings, batch) * -5).tolist() == pytest.approx(advantages, abs=1e-14)
