"""Objectives on values: golden numbers, and the identities that tie them to those on log-probs and to each other."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from test_objectives import gradient, loss, random_scores, replaced, scores

from redi_ray.config.objectives import DpoObjective
from redi_ray.config.reward_objectives import (
    BradleyTerryObjective,
    OrealRmObjective,
    OutcomeBceObjective,
    StepBceObjective,
    StepMseObjective,
)

ONES = torch.ones(2).double()


def test_by_hand() -> None:
    """v = (.3, -.2) on a pair. With rewards (.9, .4): BCE -(.9 ln s(.3) + .1 ln s(-.3)), -(.4 ln s(-.2) + .6 ln s(.2)); squares
    .36, .36."""
    pair = replace(
        scores(torch.tensor([0.3, -0.2], dtype=torch.float64), ONES),
        rewards=torch.tensor([0.9, 0.4], dtype=torch.float64),
    )
    assert loss(BradleyTerryObjective(), pair).item() == pytest.approx(0.4740769842, abs=1e-10)
    assert loss(BradleyTerryObjective(margin=0.5), pair).item() == pytest.approx(math.log(2), abs=1e-15)
    assert loss(BradleyTerryObjective(centre=2), pair).item() == pytest.approx(0.4940769842, abs=1e-10)
    chosen, rejected = math.log1p(math.exp(-0.3)), math.log1p(math.exp(-0.2))
    assert loss(OutcomeBceObjective(), pair).item() == pytest.approx((chosen + rejected) / 2, abs=1e-15)
    steps = (chosen + 0.1 * 0.3 + math.log1p(math.exp(-0.2)) + 0.4 * 0.2) / 2
    assert loss(StepBceObjective(), pair).item() == pytest.approx(steps, abs=1e-15)
    assert loss(StepMseObjective(), pair).item() == pytest.approx(0.36, abs=1e-15)


def test_oreal_reads_the_mean() -> None:
    """w = (.4, -1.2, .8) has the mean 0: log 2 for a right answer and for a wrong one."""
    pair = scores(torch.zeros(2).double(), torch.tensor([3.0, 3.0]).double())
    assert loss(OrealRmObjective(), pair).item() == pytest.approx(math.log(2), abs=1e-15)
    assert gradient(OrealRmObjective(), pair).tolist() == pytest.approx([-0.5 / 3 / 2, 0.5 / 3 / 2])


def test_identities() -> None:
    """Bradley-Terry on values is DPO on the log-ratio; swapped sides differ by the margin; steps with rewards 1 and 0 are
    outcomes; with one token the mean is the last."""
    batch = random_scores()
    ratio = replaced(batch, batch.logps - batch.ref_logps)
    torch.testing.assert_close(loss(BradleyTerryObjective(), ratio), loss(DpoObjective(beta=1.0), batch))
    torch.testing.assert_close(gradient(BradleyTerryObjective(), ratio), gradient(DpoObjective(beta=1.0), batch))
    swapped = replace(ratio, chosen=ratio.rejected, rejected=ratio.chosen)
    difference = loss(BradleyTerryObjective(), ratio) - loss(BradleyTerryObjective(), swapped)
    chosen, rejected = ratio.pairs(ratio.logps)
    torch.testing.assert_close(difference, -(chosen - rejected).mean())
    sided = replace(ratio, rewards=(ratio.sides > 0).double())
    for other in (StepBceObjective(), StepBceObjective(normalization="sequence_mean")):
        torch.testing.assert_close(gradient(other, sided), gradient(OutcomeBceObjective(), sided))
    single = replace(ratio, lengths=torch.ones_like(ratio.lengths))
    torch.testing.assert_close(gradient(OrealRmObjective(), single), gradient(OutcomeBceObjective(), single))


def test_a_sequence_of_many_steps_counts_as_one_of_few() -> None:
    """Three steps of the first sequence, one of the second."""
    values, rewards = torch.tensor([1.0, 2, 3, 4]).double(), torch.zeros(4).double()
    batch = replace(scores(values, torch.ones(4).double()), sequence=torch.tensor([0, 0, 0, 1]), rewards=rewards)
    assert loss(StepMseObjective(), batch).item() == pytest.approx((1 + 4 + 9 + 16) / 4)
    by_sequence = StepMseObjective(normalization="sequence_mean")
    assert loss(by_sequence, batch).item() == pytest.approx(((1 + 4 + 9) / 3 + 16) / 2)
