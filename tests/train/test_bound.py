"""From token log-probs to the loss: one fixture of two short responses, whose golden values hold through weights, masks, units
and references (chosen: sum of log-ratios .3, rejected: -.2).
"""

from __future__ import annotations

import math

import pytest
import torch

from redi_ray.config.objectives import (
    AdvantageObjective,
    DphObjective,
    DpoObjective,
    KtoObjective,
    LdDpoObjective,
    NcaObjective,
    Objective,
    SimpoObjective,
)
from redi_ray.config.training import TrainSettings
from redi_ray.objectives import OBJECTIVES
from redi_ray.objectives.base import MismatchedScores
from redi_ray.train.batches import BatchPlan, Pack
from redi_ray.train.bound import BoundObjective, batch_units, columns_of
from redi_ray.train.packs import pack_tensors
from redi_ray.train.records import SequenceRecord
from redi_ray.train.sequences import SequenceStore

CHOSEN = [(-0.5, -0.7), (-1.0, -0.9), (-0.2, -0.4)]
REJECTED = [(-1.2, -0.8), (-0.3, -0.5)]
"""Log-prob of the policy and of the reference, token by token."""


def evaluate(
    objective: Objective, chosen=CHOSEN, rejected=REJECTED, *, weights=(None, None), mismatched=None
) -> tuple[float, list[float]]:
    """Loss and what each token's log-prob has for a coefficient; weights: of the tokens of either side."""
    records = [
        SequenceRecord(
            0,
            side,
            [7, *range(len(tokens))],
            1,
            None if own is None else [0, *own],
            reward=[side],
            columns={"ref_logps": [0, *(r for _, r in tokens)]},
        )
        for side, tokens, own in zip((1, -1), (chosen, rejected), weights, strict=True)
    ]
    store = SequenceStore.from_records(records)
    tail = OBJECTIVES[objective.name].tail
    plan = BatchPlan(store, TrainSettings(batch_size=1), 1, tail=None if tail is None else tail(objective))[0]
    units = batch_units(store, plan.sequences)
    bound = BoundObjective(store, plan, objective, 0.0, units, mismatched)
    columns = columns_of(objective)
    pack, device = Pack((0, 1), len(store.tokens)), torch.device("cpu")
    tensors = pack_tensors(store, pack, units.slots, device, columns=columns, tails=plan.tails)
    scored = (store.weights != 0).nonzero()[0]
    given = torch.tensor([0, *(lp for lp, _ in chosen), 0, *(lp for lp, _ in rejected)], dtype=torch.float64)[scored]
    sums = torch.zeros(len(units.lengths), dtype=torch.float64)
    tensors.add_to(sums, given)
    slopes = tensors.weighted(bound.coefficients(sums)[tensors.slots])
    if local := bound.local(tensors):
        slopes = slopes + local(slice(0, len(given)), given)
    return bound.evaluate(sums, float(bound.local_sum(tensors, given)))[0], slopes.tolist()


def at_reference(tokens):
    return [(r, r) for _, r in tokens]


def test_dpo_and_nca():
    for beta, expected in ((0.1, 0.6684596480), (0.4, 0.5981388694), (0.5, 0.5759394199)):
        assert evaluate(DpoObjective(beta=beta))[0] == pytest.approx(expected, abs=1e-8)
    for beta, slope in ((0.1, -0.0487502604), (0.4, -0.1800664011)):
        assert evaluate(DpoObjective(beta=beta))[1] == pytest.approx([slope] * 3 + [-slope] * 2, abs=1e-8)
    assert evaluate(NcaObjective(beta=0.3))[0] == pytest.approx(1.3505375651, abs=1e-8)
    same = (at_reference(CHOSEN), at_reference(REJECTED))
    for objective, value, slope in ((NcaObjective(beta=0.3), 2, 0.075), (DpoObjective(beta=0.3), 1, 0.15)):
        loss, slopes = evaluate(objective, *same)
        assert loss == pytest.approx(value * math.log(2), rel=1e-7)  # the reference is stored in float32
        assert slopes == pytest.approx([-slope] * 3 + [slope] * 2, rel=1e-6)


def test_kto():
    """z = .1 from mismatched sequences; at policy == reference and z = 0 the loss is a half."""
    one = torch.ones(1, dtype=torch.float64)
    found, _ = evaluate(KtoObjective(beta=0.1), mismatched=MismatchedScores(0.1 * one, 0 * one, one))
    assert found == pytest.approx(0.4937503646, abs=1e-8)
    found, slopes = evaluate(
        KtoObjective(beta=0.1), at_reference(CHOSEN), at_reference(REJECTED), mismatched=MismatchedScores(one, one, one)
    )
    assert found == pytest.approx(0.5, abs=1e-8)
    assert slopes == pytest.approx([-0.0125] * 3 + [0.0125] * 2, abs=1e-8)


def test_cdpo_is_dpo_with_weights():
    """1 - s_t on the rejected, s = (.9, .25): its score is .11; all s = 0 is DPO, all 1 leaves the chosen side alone (here
    with a factor that is next to nothing, since a sequence without a scored token is none)."""

    def cdpo(s, gamma=1.0):
        return evaluate(DpoObjective(beta=gamma), weights=(None, [1 - value for value in s]))

    assert cdpo((0.9, 0.25))[0] == pytest.approx(0.6026529093, abs=1e-7)
    assert cdpo((0.9, 0.25), 0.1)[0] == pytest.approx(0.6836923049, abs=1e-7)
    assert cdpo((0, 0))[0] == pytest.approx(0.4740769842, abs=1e-7)
    assert cdpo((0, 0)) == evaluate(DpoObjective(beta=1.0))
    assert cdpo((1 - 1e-12, 1))[0] == pytest.approx(0.5543552445, abs=1e-7)
    _, slopes = cdpo((0.9, 0.25))
    assert [slopes[3] / slopes[0], slopes[4] / slopes[0]] == pytest.approx([-0.1, -0.75], rel=1e-6)


def test_ld_dpo_weighs_what_is_longer_than_the_other_side():
    """The chosen's third token is beyond the two of the rejected: with .5, s_w = .2 - .1 + .5 * .2. Of scored tokens: with the
    first masked there is no tail."""
    for alpha, s_w in ((1.0, 0.3), (0.5, 0.2), (0.1, 0.12)):
        loss, slopes = evaluate(LdDpoObjective(beta=0.1, alpha=alpha))
        slope = 0.1 / (1 + math.exp(0.1 * (s_w + 0.2)))
        assert loss == pytest.approx(math.log1p(math.exp(-0.1 * (s_w + 0.2))), abs=1e-7)
        assert slopes == pytest.approx([-slope, -slope, -alpha * slope, slope, slope], abs=1e-7)
    assert evaluate(LdDpoObjective(beta=0.1, alpha=1.0)) == evaluate(DpoObjective(beta=0.1))
    masked = ([0, 1, 1], None)
    assert evaluate(LdDpoObjective(beta=0.1), weights=masked) == evaluate(DpoObjective(beta=0.1), weights=masked)


def test_a_tools_turn_is_a_weight_of_0():
    """Its log-ratio of +5 counts unless it is masked, and cancels where both sides have it; what it is does not matter."""
    tool, masked = [(-1.0, -6.0)], [1, 1, 1, 0]
    dpo = DpoObjective(beta=0.1)
    assert evaluate(dpo, CHOSEN + tool)[0] == pytest.approx(0.4554924815, abs=1e-7)
    alone = evaluate(dpo, CHOSEN + tool, weights=(masked, None))
    assert alone[0] == pytest.approx(0.6684596480, abs=1e-7)
    assert alone == evaluate(dpo, [*CHOSEN, (-9.0, 3.0)], weights=(masked, None))
    assert evaluate(dpo, CHOSEN + tool, REJECTED + tool)[0] == pytest.approx(0.6684596480, abs=1e-7)


def test_a_shared_prefix_does_not_cancel_in_simpo():
    simpo, prefix = SimpoObjective(beta=2, gamma=1), [(-0.1, 0.0), (-0.6, 0.0)]
    assert evaluate(simpo)[0] == pytest.approx(1.0591365140, abs=1e-9)
    assert evaluate(simpo, prefix + CHOSEN, prefix + REJECTED)[0] == pytest.approx(1.2128812145, abs=1e-9)


def test_rewards_and_terms_of_tokens():
    """RLOO of rewards 1 and -1 is +-2: half of the mean log-prob's slope on either side. k3 of the chosen side by hand, each
    token with its weight, over the 5 tokens that are scored on both sides."""
    _, slopes = evaluate(AdvantageObjective())
    assert slopes == pytest.approx([-1 / 3] * 3 + [1 / 2] * 2)
    weights = ([1, 0.5, 2], None)
    loss, slopes = evaluate(DphObjective(divergence="k3", coefficient=0.3), weights=weights)
    x = [lp - r for lp, r in CHOSEN + REJECTED]
    w = [1, 0.5, 2, 1, 1]
    assert loss == pytest.approx(sum(0.3 * a * (math.exp(b) - 1 - b) / 5 for a, b in zip(w, x, strict=True)), abs=1e-7)
    assert slopes == pytest.approx([0.3 * a * math.expm1(b) / 5 for a, b in zip(w, x, strict=True)], abs=1e-7)
