"""Objectives on all samples of a problem: slopes, golden numbers, and where they are REDI, DPO, SFT or an advantage."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from test_objectives import examples, gradient, loss, random_scores, replaced, scores

from redi_ray.config.objectives import (
    AdvantageObjective,
    DphObjective,
    GlowObjective,
    NftObjective,
    Objective,
    OrealObjective,
    PpoClipObjective,
    RediGroupsObjective,
    RediObjective,
    S2rObjective,
    SftObjective,
    ToprObjective,
)
from redi_ray.objectives import OBJECTIVES, SAMPLER
from redi_ray.objectives.base import Scores, Tokens
from redi_ray.objectives.dph import divergence
from redi_ray.objectives.needs import REWARD_MEAN

UNITWISE: list[Objective] = [
    RediGroupsObjective(),
    RediGroupsObjective(exp_gamma=0.7),
    S2rObjective(kl_gradient=True),
    S2rObjective(kl=0),
    ToprObjective(),
    ToprObjective(normalization="sequence_mean"),
    GlowObjective(least=0.5, most=0.5),
]
"""With what carries no gradient held: TOPR's taper at 1, GLOW's weights at their bounds."""
TOKENWISE: list[Objective] = [
    OrealObjective(),
    OrealObjective(token_rewards=True),
    NftObjective(epsilon=1e-6),
    NftObjective(epsilon=1e-6, prompt_weight="scaled"),
    PpoClipObjective(),
]


def sampled(batch: Scores, log_ratio: float = 0.0) -> Scores:
    """The batch with a sampler whose log-probs lie that much below the policy's."""
    return replace(batch, sums={SAMPLER: batch.logps - log_ratio})


@pytest.mark.parametrize("settings", UNITWISE, ids=lambda s: s.name)
def test_gradients_agree_with_finite_differences_and_linear_is_declared(settings):
    batch = sampled(random_scores(), 3.0)
    leaf = batch.logps.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(settings, replaced(batch, x)), leaf, eps=1e-6, atol=1e-8)
    moved = replaced(sampled(random_scores(), 0.5), batch.logps - torch.linspace(0.1, 1.0, len(batch.logps)).double())
    moved = replace(moved, sums={SAMPLER: batch.logps})
    linear = OBJECTIVES[settings.name].linear(settings)
    if linear or settings.name != "glow":  # GLOW's weights are held here
        assert torch.allclose(gradient(settings, batch), gradient(settings, moved), rtol=1e-12, atol=0) == linear


def tokens(log_ratios: torch.Tensor, sides: torch.Tensor, per_unit: torch.Tensor) -> Tokens:
    """Made-up tokens with these log-ratios to the reference and, less .1, to the sampler."""
    reference = torch.linspace(-3, -0.5, len(log_ratios)).to(log_ratios)
    columns = {"ref_logps": reference, SAMPLER: reference + 0.1, REWARD_MEAN: torch.linspace(-1, 1.1, len(log_ratios))}
    columns = {name: column.to(log_ratios) for name, column in columns.items()}
    weights, ones = torch.linspace(0.5, 2, len(log_ratios)).to(log_ratios), torch.ones_like(log_ratios)
    return Tokens(
        reference + log_ratios, weights, sides, ones, columns, ones, num_tokens=7, num_sequences=3, num_groups=2,
        per_unit=per_unit,
    )  # fmt: skip


@pytest.mark.parametrize("settings", TOKENWISE, ids=lambda s: s.name)
@pytest.mark.parametrize("side", [1, -1])
def test_slopes_of_tokens_agree_with_finite_differences_and_stay_finite(settings, side):
    """Ratios that bend and ratios at their clips, of which one that overflows is no NaN."""
    x = torch.linspace(-2, 0.55, 9, dtype=torch.float64)
    some = tokens(
        x, torch.full((9,), side), torch.full((9,), 0.4 * (1 if settings.name != "ppo_clip" else side)).double()
    )
    phi = OBJECTIVES[settings.name].pointwise
    leaf = some.logps.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: phi(replace(some, logps=x), settings, 0.0), leaf, eps=1e-6, atol=1e-8)
    far = tokens(torch.tensor([-500.0, 0.0, 500.0]), torch.full((3,), side), torch.full((3,), 0.4))
    leaf = far.logps.clone().requires_grad_()
    terms = phi(replace(far, logps=leaf), settings, 0.0)
    assert torch.isfinite(terms).all()
    assert torch.isfinite(torch.autograd.grad(terms.sum(), leaf)[0]).all()


def fixture() -> Scores:
    """Chosen: mean log-ratio .1 over 3 tokens; rejected: -.1 over 2; rewards 1 and -1."""
    logps, lengths, reference, rewards = torch.tensor([[-1.7, -1.5], [3, 2], [-2, -1.3], [1, -1]], dtype=torch.float64)
    return replace(scores(logps, lengths), ref_logps=reference, rewards=rewards)


def test_s2r_golden_values():
    """rho e^.1 and e^-.1; A = r - .15 times the mean log-ratio. At the reference the code's outcome form has slopes -.85 and
    1.15 in the mean log-prob, the paper's -1 and 1."""
    for kl, chosen, rejected in ((0.0, -1.1051709181, 0.9048374180), (0.15, -1.0885933544, 0.8912648568)):
        both = loss(S2rObjective(kl=kl), fixture()).item()
        assert both == pytest.approx((chosen + rejected) / 2, abs=1e-10)
        one = replace(examples(fixture()), ref_logps=fixture().ref_logps[:1], rewards=fixture().rewards[:1])
        assert loss(S2rObjective(kl=kl), one).item() == pytest.approx(chosen, abs=1e-10)
    at = replace(fixture(), ref_logps=fixture().logps)
    for settings, slopes in ((S2rObjective(), (-1, 1)), (S2rObjective(kl_gradient=True), (-0.85, 1.15))):
        assert gradient(settings, at).tolist() == pytest.approx([slopes[0] / 6, slopes[1] / 4], abs=1e-12)
    clipped = replace(fixture(), ref_logps=fixture().logps - torch.tensor([0.9, -0.9]))
    assert gradient(S2rObjective(), clipped).abs().max() == 0, "what has gone further than the clip is let alone"


def test_at_the_reference_or_the_sampler_they_are_redi():
    """With rewards 1 and -alpha S2R, and TOPR with sums and alpha 1; half of it, since REDI's mean is over pairs. REDI on groups
    of two is REDI."""
    batch, alpha = random_scores(at_reference=True), 0.8
    rewarded = replace(batch, rewards=torch.where(batch.sides > 0, 1.0, -alpha).double())
    torch.testing.assert_close(2 * gradient(S2rObjective(), rewarded), gradient(RediObjective(alpha=alpha), batch))
    ones = replace(batch, lengths=torch.ones_like(batch.lengths))
    for normalization, expected in (("sum", ones), ("sequence_mean", batch)):
        ours = gradient(ToprObjective(normalization=normalization), sampled(batch))
        torch.testing.assert_close(2 * ours, gradient(RediObjective(alpha=1.0), expected))
    for options in ({}, {"exp_gamma": 0.4}):
        group, pair = RediGroupsObjective(**options), RediObjective(**options)
        assert loss(group, batch).item() == pytest.approx(loss(pair, batch).item(), rel=1e-14)
        torch.testing.assert_close(gradient(group, batch), gradient(pair, batch))


def test_redi_shares_its_weight_among_a_problems_negatives():
    """Means -1 (right), -2 and -4 (wrong) of one problem, -3 (wrong) of another: (1 + .8 * -3 + .8 * -3) / 2."""
    batch = replace(
        examples(scores(torch.tensor([-1.0, -2, -4, -3]).double(), torch.ones(4).double()), slice(None)),
        sides=torch.tensor([1, -1, -1, -1]),
        group=torch.tensor([0, 0, 0, 1]),
    )
    assert loss(RediGroupsObjective(), batch).item() == pytest.approx(-1.9, abs=1e-14)
    assert gradient(RediGroupsObjective(), batch).tolist() == pytest.approx([-0.5, 0.2, 0.2, 0.4])


def test_topr_tapers_what_has_become_unlikely_and_no_more():
    """pi / mu of whole sequences e^-1 and e^2: a wrong one weighs e^-1 and 1, a right one always 1."""
    for x, taper in ((-1.0, math.exp(-1)), (2.0, 1.0)):
        batch = sampled(fixture(), x)
        assert gradient(ToprObjective(), batch).tolist() == pytest.approx([-0.5, taper / 2], rel=1e-12)


def problem(right: int, samples: int) -> Scores:
    """A problem's samples, a token each, the first ones right."""
    ones = torch.ones(samples).double()
    sides = torch.tensor([1] * right + [-1] * (samples - right))
    batch = examples(scores(-2 * ones, ones), slice(None))
    return replace(batch, sides=sides, group=torch.zeros(samples).long(), rewards=(sides > 0).double())


def of_tokens(settings: Objective, batch: Scores, log_ratio: float = 0.0, **columns: float) -> torch.Tensor:
    """Slopes of a batch whose units are a token each, that much above the sampler and at the reference."""
    spec, ones = OBJECTIVES[settings.name], torch.ones_like(batch.logps)
    leaf = batch.logps.clone().requires_grad_()
    known = {"ref_logps": batch.logps, SAMPLER: batch.logps - log_ratio} | {n: v * ones for n, v in columns.items()}
    some = Tokens(
        leaf, ones, batch.sides, ones, known, batch.rewards, len(ones), len(ones), 1,
        per_unit=spec.per_unit(batch, settings),
    )  # fmt: skip
    return torch.autograd.grad(spec.pointwise(some, settings, 0.0).sum(), leaf)[0]


@pytest.mark.parametrize(("right", "samples", "plus", "minus"), [(3, 16, 1.7333333, 0.4), (2, 8, 1.7142857, 0.5714286)])
def test_oreals_advantages(right: int, samples: int, plus: float, minus: float):
    """Over the tokens of the right, and of the wrong with weight .5; at the reference the KL has no slope."""
    slopes = of_tokens(OrealObjective(), problem(right, samples))
    assert slopes[0].item() == pytest.approx(-plus / right, rel=1e-6)
    assert slopes[-1].item() == pytest.approx(0.5 * minus / (samples - right), rel=1e-6)
    further = of_tokens(OrealObjective(), problem(right, samples), log_ratio=-0.5)
    assert (further / slopes).tolist() == pytest.approx([1.0] * right + [math.exp(-0.5)] * (samples - right))
    given = replace(problem(1, 2), rewards=torch.tensor([26 / 15, -0.4], dtype=torch.float64))
    slopes = of_tokens(OrealObjective(baseline="none"), given)
    assert slopes.tolist() == pytest.approx([-26 / 15, 0.5 * 0.4]), "of all samples, though two are left"


def test_s2r_is_finite_however_far_the_policy_is():
    for far in (800.0, -1e4):
        leaf = torch.tensor([far], dtype=torch.float64, requires_grad=True)
        batch = replace(problem(1, 1), logps=leaf, ref_logps=torch.zeros(1, dtype=torch.float64), rewards=torch.ones(1))
        loss, _ = OBJECTIVES["s2r"].psi(batch, S2rObjective(), 0.0)
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(leaf.grad).all()


def test_oreals_token_rewards():
    """Means c = .4, -.4, 0 of the logits .4, -1.2, .8: omega+ .1973753, 0, 0 and omega- 0, .1973753, 0. With all logits 0 only
    the KL is left: of the fixture's chosen .000142108."""
    logps, reference = torch.tensor([[-0.5, -1, -0.2], [-0.7, -0.9, -0.4]], dtype=torch.float64)
    settings, ones = OrealObjective(token_rewards=True), torch.ones(3).double()

    def loss_of(side: int, means: list[float], kl: float) -> float:
        columns = {"ref_logps": reference, SAMPLER: logps, REWARD_MEAN: torch.tensor(means, dtype=torch.float64)}
        some = Tokens(logps, ones, side * ones, ones, columns, None, 3, 1, 1, per_unit=ones / 3)
        return OBJECTIVES["oreal"].pointwise(some, replace(settings, kl=kl), 0.0).sum().item()

    assert loss_of(1, [0.4, -0.4, 0.0], 0.0) == pytest.approx(0.0328958867, abs=1e-9)
    assert loss_of(-1, [0.4, -0.4, 0.0], 0.0) == pytest.approx(0.1973753202 / 3, abs=1e-9)
    assert loss_of(1, [0.0] * 3, 0.01) == loss_of(-1, [0.0] * 3, 0.01) == pytest.approx(0.000142108, abs=1e-9)


def test_nft_at_the_sampler_is_an_advantage_and_bends_away_from_it():
    """Its gradient there is that of rewards 1 and 0 less their mean, or with `scaled` over their deviation. R = 1.2, q = .25:
    (1 - .3) / .75 is below epsilon 1, so its slope is q R / (1 - q) over 1; with epsilon .5 over itself."""
    batch = problem(2, 8)
    for weight, baseline in (("wrong_share", "group_mean"), ("scaled", "group_scaled")):
        ours = of_tokens(NftObjective(prompt_weight=weight), batch)
        torch.testing.assert_close(ours, gradient(AdvantageObjective(baseline=baseline), batch))
    for epsilon, implied in ((1.0, 1.0), (0.5, 0.7 / 0.75)):
        slopes = of_tokens(NftObjective(epsilon=epsilon, prompt_weight="one"), batch, math.log(1.2))
        assert slopes[-1].item() == pytest.approx(0.3 / 0.75 / implied / 8, rel=1e-12)
    assert of_tokens(NftObjective(), problem(8, 8)).tolist() == pytest.approx([-0.02 / 8] * 8)
    kept = replace(problem(1, 2), rewards=torch.tensor([0.75, -0.25], dtype=torch.float64))
    slopes = of_tokens(NftObjective(rate="advantages"), kept)
    assert slopes.tolist() == pytest.approx([-0.75 / 2, 0.25 / 2]), "q = .25 of all samples, though two are left"


def test_ppos_clips():
    """4 of 8 right: A = 1 and -1. Ratios that count: of right tokens up to 1.28, of wrong ones from .8 to 3."""
    batch = problem(4, 8)
    for ratio, right, wrong in ((0.5, 0.5, 0), (1.0, 1, 1), (1.2, 1.2, 1.2), (1.5, 0, 1.5), (4.0, 0, 0)):
        slopes = of_tokens(PpoClipObjective(), batch, math.log(ratio))
        assert slopes[[0, -1]].tolist() == pytest.approx([-right / 8, wrong / 8], abs=1e-12)


def test_glow_imitates_every_sample_and_least_what_was_learnt():
    """At the reference all weigh alpha / 2: half of SFT on both sides. 2 nats a token learnt: sigmoid(-2 beta), held at .5."""
    batch, sft = random_scores(at_reference=True), SftObjective(normalization="sequence_mean")
    free = GlowObjective(least=0.0)
    everything = replace(batch, sides=torch.ones_like(batch.sides))
    torch.testing.assert_close(2 * gradient(free, batch), gradient(sft, everything))
    learnt = replace(batch, ref_logps=batch.logps - 2 * batch.lengths)
    share = 1 / (1 + math.exp(0.3 * 2))
    torch.testing.assert_close(gradient(replace(free, beta=0.3), learnt), share * gradient(sft, everything))
    torch.testing.assert_close(gradient(GlowObjective(), learnt), gradient(sft, everything) / 2)


def test_the_reverse_divergence_by_hand():
    """1/u - 1 + log u; under P itself its mean is KL(P || Q)."""
    reverse = DphObjective(divergence="reverse")
    x = torch.log(torch.tensor([0.5, 1, 2]).double()).requires_grad_()
    found = divergence(x, reverse)
    assert found.tolist() == pytest.approx([0.3068528194, 0, 0.1931471806], abs=1e-10)
    torch.testing.assert_close(torch.autograd.grad(found.sum(), x)[0], 1 - (-x.detach()).exp())
    p, q = torch.tensor([[0.7, 0.3], [0.4, 0.6]], dtype=torch.float64)
    assert (p * divergence(torch.log(p / q), reverse)).sum().item() == pytest.approx(0.1837868974, abs=1e-10)
