"""Divergences over a few outcomes: their closed gradients against finite differences, GKD's limits, and values by hand."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch

from redi_ray.config.soft_objectives import (
    DivergenceName,
    JsObjective,
    OnPolicyDistillationObjective,
    SoftRediObjective,
)
from redi_ray.objectives.divergences import Divergence, divergence

EVERY = [Divergence(name, beta=0.3, temperature=t) for name in get_args(DivergenceName) for t in (0.5, 1.0, 2.5)]


def inputs(rows: int = 6, outcomes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return 2 * torch.randn(rows, outcomes, dtype=torch.float64), 2 * torch.randn(rows, outcomes, dtype=torch.float64)


@pytest.mark.parametrize("how", EVERY, ids=lambda how: f"{how.name}-{how.temperature}")
def test_gradients_agree_with_finite_differences(how):
    logits, targets = inputs()
    _, slopes = divergence(logits, targets, how)
    step = 1e-6
    for row in range(len(logits)):
        for outcome in range(logits.shape[1]):
            moved = torch.zeros_like(logits)
            moved[row, outcome] = step
            high, low = (divergence(logits + sign * moved, targets, how)[0][row] for sign in (1, -1))
            assert slopes[row, outcome].item() == pytest.approx(((high - low) / (2 * step)).item(), abs=1e-8)
    shift = torch.randn(len(logits), 1, dtype=torch.float64)
    same = divergence(logits + shift, targets - shift, how)
    torch.testing.assert_close(same, divergence(logits, targets, how), rtol=1e-12, atol=1e-13)


def test_between_the_two_kls_lies_js():
    """GKD: JS / beta becomes the forward KL, JS / (1 - beta) the reverse one; at a half it is symmetric, and at most log 2."""
    logits, targets = inputs()
    for beta, name in ((1e-7, "forward_kl"), (1 - 1e-7, "reverse_kl")):
        share = min(beta, 1 - beta)
        ours = [x / share for x in divergence(logits, targets, Divergence("js", beta=beta))]
        torch.testing.assert_close(tuple(ours), divergence(logits, targets, Divergence(name)), rtol=1e-4, atol=1e-6)
    half = Divergence("js")
    values = divergence(logits, targets, half)[0]
    torch.testing.assert_close(values, divergence(targets, logits, half)[0])
    assert 0 < float(values.min()) <= float(values.max()) < math.log(2)


def test_values_by_hand():
    """P = (.7, .3), Q = (.4, .6): KL(P||Q) = .1837868974, KL(Q||P) = .1920419932, twice the JS .0924016584."""
    p, q = (torch.tensor([[a, 1 - a]], dtype=torch.float64).log() for a in (0.7, 0.4))
    found = {how: divergence(p, q, Divergence(how))[0].item() for how in get_args(DivergenceName)}
    assert found["reverse_kl"] == pytest.approx(0.1837868974, abs=1e-10)
    assert found["forward_kl"] == pytest.approx(0.1920419932, abs=1e-10)
    assert 2 * found["js"] == pytest.approx(0.0924016584, abs=1e-10)


@pytest.mark.parametrize("how", EVERY, ids=lambda how: f"{how.name}-{how.temperature}")
def test_an_outcome_that_neither_has_changes_nothing(how):
    """As the rest where k is the whole vocabulary: -inf in both, or the least number that is stored."""
    logits, targets = inputs()
    expected = divergence(logits, targets, how)
    for lowest in (-torch.inf, -65504.0):
        values, slopes = divergence(
            torch.nn.functional.pad(logits, (0, 1), value=-torch.inf),
            torch.nn.functional.pad(targets, (0, 1), value=lowest),
            how,
        )
        torch.testing.assert_close((values, slopes[:, :-1]), expected)
        assert not slopes[:, -1].any()


def test_what_the_student_rules_out_costs_without_bound_and_what_the_teacher_does_less_in_js():
    one, sure = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[0.0, -torch.inf]], dtype=torch.float64)
    assert math.isinf(divergence(one, sure, Divergence("reverse_kl"))[0].item())
    assert math.isinf(divergence(sure, one, Divergence("forward_kl"))[0].item())
    assert divergence(one, sure, Divergence("forward_kl"))[0].item() == pytest.approx(math.log(2))
    for pair in ((one, sure), (sure, one)):
        assert 0 < divergence(*pair, Divergence("js"))[0].item() < math.log(2)


def test_settings_name_their_divergence():
    assert Divergence.of(JsObjective(beta=0.1, temperature=2, top_k=3)) == Divergence("js", 0.1, 2, "bucket", 3)
    assert Divergence.of(SoftRediObjective(divergence="reverse_kl", rest="renormalise")).name == "reverse_kl"


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"beta": 0.0}, "take forward_kl or reverse_kl"), ({"temperature": 0}, "temperature must be between"),
     ({"rest": "renormalise", "top_k": 1}, "nothing to learn"), ({"nll_weight": -1}, "nll_weight")],
)  # fmt: skip
def test_what_means_nothing_is_refused(settings, told):
    with pytest.raises(ValueError, match=told):
        JsObjective(**settings)


@pytest.mark.parametrize(
    ("objective", "unread", "read"),
    [(SoftRediObjective, {"beta": 0.9}, {"divergence": "js"}),
     (OnPolicyDistillationObjective, {"student": "policy", "clip": 0.1}, {"student": "sampler"}),
     (OnPolicyDistillationObjective, {"student": "policy", "baseline": "none"}, {"student": "sampler"})],
)  # fmt: skip
def test_what_would_not_be_read_is_refused(objective, unread, read):
    """Else another value would train anew, and the same."""
    with pytest.raises(ValueError, match=f"{[*unread][-1]} is of .* alone, .* does not read it: leave it out"):
        objective(**unread)
    objective(**unread | read)
