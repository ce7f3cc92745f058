"""Objectives are right: gradients against finite differences, golden numbers worked by hand, and the identities that tie
them to each other (limits, special cases, values at policy == reference). A sign or a denominator that slips breaks one.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import get_args

import pytest
import torch

from redi_ray.config.objectives import (
    BY_UNIT,
    COMPARING,
    IMITATING,
    REWARDED,
    SAMPLED,
    UNPAIRED,
    AdvantageObjective,
    AlphaSchedule,
    AsymreObjective,
    CpoObjective,
    DphObjective,
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
from redi_ray.config.reward_objectives import (
    AT_LAST,
    SHARES,
    VALUED,
    BradleyTerryObjective,
    OrealRmObjective,
    OutcomeBceObjective,
    StepBceObjective,
    StepMseObjective,
)
from redi_ray.objectives import OBJECTIVES, SAMPLER
from redi_ray.objectives.base import MismatchedScores, Scores, Tokens
from redi_ray.objectives.redi import alpha_at
from redi_ray.objectives.spec import always

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
    KtoObjective(normalization="sequence_mean"),
    KtoObjective(baseline="none"),
    KtoObjective(baseline="batch_mean"),
    AsymreObjective(),
    AsymreObjective(baseline="constant", normalization="sequence_mean"),
    AdvantageObjective(),
    AdvantageObjective(baseline="group_mean", normalization="sum"),
    AdvantageObjective(baseline="group_scaled"),
    AdvantageObjective(baseline="none"),
    BradleyTerryObjective(),
    BradleyTerryObjective(margin=0.5, centre=0.1),
    OutcomeBceObjective(),
    OrealRmObjective(),
    StepBceObjective(),
    StepBceObjective(normalization="sequence_mean"),
    StepMseObjective(),
]
DIVERGENCES = [DphObjective(divergence=name) for name in ("nll", "k3", "js", "alpha")]


def scores(logps: torch.Tensor, lengths: torch.Tensor, reference: torch.Tensor | None = None) -> Scores:
    """Pairs laid out as chosen, rejected, chosen, rejected ..."""
    index = torch.arange(len(logps))
    sides = torch.where(index % 2 == 0, 1, -1)
    return Scores(logps, lengths, sides, index[::2], index[1::2], index // 2, index, reference)


def examples(batch: Scores, kept: slice = slice(None, None, 2)) -> Scores:
    """Those sequences of the batch, each a group of its own; the chosen ones by default."""
    index, none = torch.arange(len(batch.logps[kept])), torch.tensor([]).long()
    return Scores(batch.logps[kept], batch.lengths[kept], batch.sides[kept], none, none, index, index)


def random_scores(seed: int = 0, pairs: int = 4, at_reference: bool = False) -> Scores:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, 30, (2 * pairs,), generator=generator).double()
    logps = -lengths * (0.5 + torch.rand(2 * pairs, generator=generator, dtype=torch.float64))
    reference = logps + (0 if at_reference else torch.randn(2 * pairs, generator=generator, dtype=torch.float64))
    others = MismatchedScores(logps.flip(0), logps.flip(0) - 1 - lengths / 7, lengths.flip(0))
    rewards = torch.randn(2 * pairs, generator=generator, dtype=torch.float64)
    return replace(scores(logps, lengths, reference.detach()), mismatched=others, rewards=rewards)


def replaced(batch: Scores, logps: torch.Tensor) -> Scores:
    return replace(batch, logps=logps)


def loss(settings: Objective, batch: Scores, progress: float = 0.0) -> torch.Tensor:
    return OBJECTIVES[settings.name].psi(batch, settings, progress)[0]


def gradient(settings: Objective, batch: Scores, progress: float = 0.0) -> torch.Tensor:
    leaf = batch.logps.clone().requires_grad_()
    return torch.autograd.grad(loss(settings, replaced(batch, leaf), progress), leaf)[0]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: s.name)
def test_gradients_agree_with_finite_differences(settings):
    batch = random_scores()
    if settings == KtoObjective(baseline="batch_mean"):  # its z takes no gradient: hold it at the clamp
        batch = replace(batch, ref_logps=batch.logps + 5.0)
    leaf = batch.logps.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(settings, replaced(batch, x)), leaf, eps=1e-6, atol=1e-8)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: s.name)
def test_linear_is_declared_where_the_gradient_does_not_depend_on_the_scores(settings):
    first = random_scores()
    second = replaced(first, first.logps - torch.linspace(0.1, 1.0, len(first.logps), dtype=torch.float64))
    same = torch.allclose(gradient(settings, first), gradient(settings, second), rtol=1e-12, atol=0)
    assert same == OBJECTIVES[settings.name].linear(settings)


def tokens(log_ratios: torch.Tensor) -> Tokens:
    """Made-up tokens with these log-ratios to the reference, and weights that are not 1."""
    ones, reference = torch.ones_like(log_ratios), torch.linspace(-3, -0.5, len(log_ratios)).to(log_ratios)
    weights = torch.linspace(0.5, 2, len(log_ratios)).to(log_ratios)
    columns = {"ref_logps": reference}
    return Tokens(
        reference + log_ratios, weights, ones, ones, columns, ones, num_tokens=7, num_sequences=3, num_groups=2
    )


@pytest.mark.parametrize("settings", DIVERGENCES, ids=lambda s: s.divergence)
def test_pointwise_slopes_agree_with_finite_differences_and_stay_finite(settings):
    """Terms add up to the loss by themselves: no token's slope depends on another. A ratio that underflows is no NaN."""
    some = tokens(torch.linspace(-4, 4, 11, dtype=torch.float64))
    phi = OBJECTIVES[settings.name].pointwise
    leaf = some.logps.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: phi(replace(some, logps=x), settings, 0.0), leaf, eps=1e-6, atol=1e-8)
    far = tokens(torch.tensor([-500.0, 0.0, 500.0]))
    leaf = far.logps.clone().requires_grad_()
    terms = phi(replace(far, logps=leaf), settings, 0.0)
    assert torch.isfinite(terms).all()
    assert torch.isfinite(torch.autograd.grad(terms.sum(), leaf)[0]).all()


def test_who_imitates_is_known_without_torch():
    assert {name for name, spec in OBJECTIVES.items() if spec.sides == "chosen"} == IMITATING
    assert {name for name, spec in OBJECTIVES.items() if spec.sides == "any"} == UNPAIRED
    assert {name for name, spec in OBJECTIVES.items() if spec.needs_rewards is always} == REWARDED
    assert {name for name, spec in OBJECTIVES.items() if spec.compares_sides} == COMPARING
    assert {name for name, spec in OBJECTIVES.items() if spec.several_units} == BY_UNIT
    assert {name for name, spec in OBJECTIVES.items() if spec.reads == "values"} == VALUED
    assert {name for name, spec in OBJECTIVES.items() if spec.at_last} == AT_LAST
    assert {name for name, spec in OBJECTIVES.items() if spec.reward_range == (0, 1)} == SHARES
    defaults = {kind().name: kind() for kind in get_args(Objective)}
    read = {name: {*spec.columns(defaults[name]), *spec.sums(defaults[name])} for name, spec in OBJECTIVES.items()}
    assert {name for name, columns in read.items() if SAMPLER in columns} == SAMPLED


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
    chosen = examples(batch)
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
    # REDI's mean over pairs is half of KTO's mean over sequences. At beta 0 no baseline matters.
    for baseline in ("mismatched", "batch_mean", "none"):
        options = {"beta": beta, "lambda_desirable": 1.6, "lambda_undesirable": 0.8, "baseline": baseline}
        kto = gradient(KtoObjective(**options, normalization="sequence_mean"), batch)
        redi = gradient(RediObjective(alpha=0.5), batch)
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
    chosen_nll = loss(nll, examples(batch))
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


def test_kto_by_hand():
    """Two desirable examples and no pair; policy above the reference by 2 and 4 nats over 1 and 2 tokens, so s = 2, 4 and
    per token 2, 2. Mismatched sequences: 1 and 5 nats over 1 and 5 tokens, so z = 3, and 1 per token.

    1 - sigmoid(beta (s - z)) with beta ln 3: s - z = -1, 1 gives 3/4, 1/4; per token 1, 1 gives 1/4, 1/4.
    Batch mean: z = 3 of sums as well. None: s = 2, 4 gives 1/10, 1/82.
    """
    lengths, ratios = torch.tensor([1.0, 2.0]).double(), torch.tensor([2.0, 4.0]).double()
    leaf = torch.tensor([-3.0, -7.0]).double().requires_grad_()
    others = MismatchedScores(-lengths, -lengths - torch.tensor([1.0, 5.0]), torch.tensor([1.0, 5.0]).double())
    plain = examples(replace(scores(leaf, lengths), sides=torch.tensor([1, 1])), slice(None))
    batch = replace(plain, ref_logps=leaf.detach() - ratios, mismatched=others)
    beta = math.log(3)
    assert loss(KtoObjective(beta=beta), batch).item() == pytest.approx((3 / 4 + 1 / 4) / 2)
    assert loss(KtoObjective(beta=beta, normalization="sequence_mean"), batch).item() == pytest.approx(1 / 4)
    assert loss(KtoObjective(beta=beta, baseline="batch_mean"), batch).item() == pytest.approx(1 / 2)
    assert loss(KtoObjective(beta=beta, baseline="none"), batch).item() == pytest.approx((1 / 10 + 1 / 82) / 2)
    # d/ds of 1 - sigmoid(beta (s - z)) with z held: -beta p (1 - p), over two sequences; undesirable ones pull down
    expected = torch.full((2,), -beta * 3 / 16 / 2).double()
    for baseline in ("mismatched", "batch_mean"):
        torch.testing.assert_close(gradient(KtoObjective(beta=beta, baseline=baseline), batch), expected)
    undesirable = replace(batch, sides=torch.tensor([-1, -1]))
    torch.testing.assert_close(gradient(KtoObjective(beta=beta), undesirable), -expected)


def test_kto_baseline_is_never_negative():
    """A policy below the reference on mismatched sequences estimates a negative divergence, which there is not: z = 0."""
    batch = random_scores()
    below = replace(batch, mismatched=replace(batch.mismatched, ref_logps=batch.mismatched.logps + 3))
    assert loss(KtoObjective(), below) == loss(KtoObjective(baseline="none"), batch)
    assert loss(KtoObjective(), batch) != loss(KtoObjective(baseline="none"), batch)


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
