"""Objectives are right: gradients against finite differences, golden numbers worked by hand, and the identities that tie
them to each other (limits, special cases, values at policy == reference). A sign or a denominator that slips breaks one.
"""

from __future__ import annotations

import math

import pytest
import torch

from redi_ray.config.objectives import (
    AlphaSchedule,
    CpoObjective,
    DpoObjective,
    IpoObjective,
    KtoObjective,
    NcaObjective,
    Objective,
    OrpoObjective,
    RediObjective,
    RpoObjective,
    SftObjective,
    SimpoObjective,
)
from redi_ray.objectives import OBJECTIVES, Scores, alpha_at

SETTINGS: list[Objective] = [
    SftObjective(),
    SftObjective(normalization="sequence_mean"),
    RediObjective(),
    RediObjective(exp_gamma=0.7),
    DpoObjective(beta=0.3),
    SimpoObjective(),
    IpoObjective(),
    RpoObjective(),
    NcaObjective(beta=0.3),
    CpoObjective(),
    OrpoObjective(),
    KtoObjective(lambda_desirable=1.3, lambda_undesirable=0.7),
]


def scores(logps: torch.Tensor, lengths: torch.Tensor, reference: torch.Tensor | None = None) -> Scores:
    """Pairs laid out as chosen, rejected, chosen, rejected ..."""
    index = torch.arange(len(logps))
    return Scores(logps, lengths, torch.where(index % 2 == 0, 1, -1), index[::2], index[1::2], reference)


def random_scores(seed: int = 0, pairs: int = 4, at_reference: bool = False) -> Scores:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, 30, (2 * pairs,), generator=generator).double()
    logps = -lengths * (0.5 + torch.rand(2 * pairs, generator=generator, dtype=torch.float64))
    reference = logps + (0 if at_reference else torch.randn(2 * pairs, generator=generator, dtype=torch.float64))
    return scores(logps, lengths, reference.detach())


def replaced(batch: Scores, logps: torch.Tensor) -> Scores:
    return Scores(logps, batch.lengths, batch.sides, batch.chosen, batch.rejected, batch.ref_logps)


def loss(settings: Objective, batch: Scores, progress: float = 0.0) -> torch.Tensor:
    return OBJECTIVES[settings.name].psi(batch, settings, progress)[0]


def gradient(settings: Objective, batch: Scores, progress: float = 0.0) -> torch.Tensor:
    leaf = batch.logps.clone().requires_grad_()
    return torch.autograd.grad(loss(settings, replaced(batch, leaf), progress), leaf)[0]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: s.name)
def test_gradients_agree_with_finite_differences(settings):
    batch = random_scores()
    if settings.name == "kto":  # z takes no gradient, so move only along directions that leave its value at the clamp
        batch = Scores(
            batch.logps, batch.lengths, batch.sides, batch.chosen, batch.rejected, batch.logps.detach() + 5.0
        )
    leaf = batch.logps.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(settings, replaced(batch, x)), leaf, eps=1e-6, atol=1e-8)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: s.name)
def test_linear_is_declared_where_the_gradient_does_not_depend_on_the_scores(settings):
    first = random_scores()
    second = replaced(first, first.logps - torch.linspace(0.1, 1.0, len(first.logps), dtype=torch.float64))
    same = torch.allclose(gradient(settings, first), gradient(settings, second), rtol=1e-12, atol=0)
    assert same == OBJECTIVES[settings.name].linear(settings)


def test_redi_by_hand():
    """Chosen: -6 nats over 3 tokens, -1 over 2; rejected: -8 over 2, -12 over 4.

    Means: chosen -2, -0.5; rejected -4, -3. Loss at alpha 0.8: (2 + 0.8 * -4 + 0.5 + 0.8 * -3) / 2 = -1.55.
    Gradient with respect to the sums: -1/(2*3), 0.8/(2*2), -1/(2*2), 0.8/(2*4).
    """
    batch = scores(torch.tensor([-6.0, -8, -1, -12]).double(), torch.tensor([3.0, 2, 2, 4]).double())
    settings = RediObjective(alpha=0.8)
    assert loss(settings, batch).item() == pytest.approx(-1.55, abs=1e-15)
    torch.testing.assert_close(gradient(settings, batch), torch.tensor([-1 / 6, 0.2, -0.25, 0.1]).double())


def test_bounded_redi_by_hand_and_its_bound():
    """At r = -1/gamma the bounded term is -1/(gamma e), its least value, with no slope."""
    gamma, alpha = 0.5, 0.8
    settings = RediObjective(alpha=alpha, exp_gamma=gamma)
    batch = scores(torch.tensor([-3.0, -2 * 4]).double(), torch.tensor([1.0, 4]).double())
    assert loss(settings, batch).item() == pytest.approx(3.0 - alpha / (gamma * math.e), abs=1e-15)
    assert gradient(settings, batch)[1].item() == pytest.approx(0, abs=1e-15)
    assert loss(settings, replaced(batch, torch.tensor([-3.0, -1e4]).double())).item() == pytest.approx(3.0)


def test_redi_without_its_negative_term_is_length_normalised_sft_on_chosen():
    batch = random_scores()
    chosen = Scores(
        batch.logps[::2], batch.lengths[::2], batch.sides[::2], torch.tensor([]).long(), torch.tensor([]).long()
    )
    sft = SftObjective(normalization="sequence_mean")
    assert loss(RediObjective(alpha=0), batch).item() == pytest.approx(loss(sft, chosen).item(), rel=1e-14)
    torch.testing.assert_close(gradient(RediObjective(alpha=0), batch)[::2], gradient(sft, chosen), rtol=1e-14, atol=0)
    assert gradient(RediObjective(alpha=0), batch)[1::2].abs().max() == 0


def test_dpo_at_the_reference_is_log_two_and_nca_has_half_its_gradient():
    batch = random_scores(at_reference=True)
    assert loss(DpoObjective(beta=0.3), batch).item() == pytest.approx(math.log(2), rel=1e-14)
    torch.testing.assert_close(
        gradient(NcaObjective(beta=0.3), batch), gradient(DpoObjective(beta=0.3), batch) / 2, rtol=1e-12, atol=0
    )


def test_small_beta_limits():
    """SimPO -> symmetric REDI, DPO -> minus half the summed difference, KTO -> REDI with alpha = lambda_U / lambda_D."""
    batch, beta = random_scores(), 1e-7
    symmetric = gradient(RediObjective(alpha=1.0), batch)
    for gamma in (0.0, 1.0):
        ours = gradient(SimpoObjective(beta=beta, gamma=gamma), batch) / (beta / (1 + math.exp(-gamma)))
        torch.testing.assert_close(ours, symmetric, rtol=1e-5, atol=0)
    pairs = len(batch.chosen)
    summed = torch.where(batch.sides > 0, -0.5, 0.5).double() / pairs
    torch.testing.assert_close(gradient(DpoObjective(beta=beta), batch) / beta, summed, rtol=1e-5, atol=0)
    # KTO reads sums; on one-token sequences sums are means, and REDI's pair mean is half KTO's sequence mean.
    ones = Scores(
        batch.logps, torch.ones_like(batch.lengths), batch.sides, batch.chosen, batch.rejected, batch.ref_logps
    )
    kto = gradient(KtoObjective(beta=beta, lambda_desirable=1.6, lambda_undesirable=0.8), ones)
    redi = gradient(RediObjective(alpha=0.5), ones)
    torch.testing.assert_close(kto / (beta / 4 * 1.6 / 2), redi, rtol=1e-5, atol=0)


def test_exchanging_the_sides_changes_dpo_and_simpo_by_the_margin():
    batch = random_scores(pairs=1)
    swap = torch.tensor([1, 0])
    swapped = scores(batch.logps[swap], batch.lengths[swap], batch.ref_logps[swap])
    for settings, s in (
        (DpoObjective(beta=0.3), batch.log_ratios()),
        (SimpoObjective(beta=0.3, gamma=0.0), batch.mean_logps()),
    ):
        difference = loss(settings, batch) - loss(settings, swapped)
        assert difference.item() == pytest.approx((-0.3 * (s[0] - s[1])).item(), rel=1e-12)


def test_rpo_and_cpo_are_dpo_plus_nll():
    batch = random_scores()
    nll = SftObjective(normalization="sequence_mean")
    chosen = replaced(batch, batch.logps)
    chosen_nll = loss(nll, Scores(batch.logps[::2], batch.lengths[::2], *([torch.tensor([])] * 3)))
    dpo = loss(DpoObjective(beta=0.3), chosen)
    assert loss(RpoObjective(beta=0.3, nll_weight=0.5), batch).item() == pytest.approx((dpo + chosen_nll / 2).item())
    uniform = scores(batch.logps, batch.lengths, torch.zeros_like(batch.logps))
    dpo = loss(DpoObjective(beta=0.3), uniform)
    assert loss(CpoObjective(beta=0.3, nll_weight=2.0), batch).item() == pytest.approx((dpo + 2 * chosen_nll).item())


def test_ipo_is_least_at_its_margin():
    """The loss is zero exactly where the mean log-ratios differ by 1/(2 beta)."""
    reference = torch.tensor([-3.0, -4.0]).double()
    lengths = torch.tensor([2.0, 5.0]).double()
    batch = scores(reference + lengths * torch.tensor([5.0, 0.0]), lengths, reference)
    assert loss(IpoObjective(beta=0.1), batch).item() == pytest.approx(0, abs=1e-20)
    assert loss(IpoObjective(beta=0.2), batch).item() == pytest.approx((5 - 2.5) ** 2)


def test_orpo_stays_finite_at_certainty():
    """A mean log-prob of exactly 0 has infinite odds; the loss must not be."""
    batch = scores(torch.tensor([0.0, -8.0]).double(), torch.tensor([3.0, 2.0]).double())
    assert torch.isfinite(loss(OrpoObjective(), batch))
    assert torch.isfinite(gradient(OrpoObjective(), batch)).all()


def test_kto_reads_unpaired_data_and_detaches_its_baseline():
    """By hand: policy 2 nats above the reference on both of two desirable examples: z = 2, so sigmoid(0) = 1/2."""
    none = torch.tensor([]).long()
    leaf = torch.tensor([-1.0, -2.0]).double().requires_grad_()
    batch = Scores(leaf, torch.ones(2).double(), torch.tensor([1, 1]), none, none, leaf.detach() - 2)
    settings = KtoObjective(beta=0.1)
    assert loss(settings, batch).item() == pytest.approx(0.5)
    # d/ds of (1 - sigmoid(beta (s - z))) with z held: -beta/4, over two sequences
    torch.testing.assert_close(torch.autograd.grad(loss(settings, batch), leaf)[0], torch.full((2,), -0.0125).double())


@pytest.mark.parametrize(
    ("kind", "at_0", "at_quarter", "at_half", "at_end"),
    [
        ("constant", 0.8, 0.8, 0.8, 0.8),
        ("linear", 0.2, 0.5, 0.8, 0.8),
        ("cosine", 0.2, 0.5, 0.8, 0.8),
        ("step", 0.2, 0.2, 0.8, 0.8),
    ],
)
def test_alpha_schedule(kind, at_0, at_quarter, at_half, at_end):
    schedule = AlphaSchedule(kind=kind, start=0.2, until=0.5)
    values = [alpha_at(0.8, schedule, progress) for progress in (0.0, 0.25, 0.5, 0.99)]
    assert values == pytest.approx([at_0, at_quarter, at_half, at_end])
