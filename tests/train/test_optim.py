"""The schedule's values, and norms that mean what they say."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from tiny_models import tiny_policy
from torch import nn

from redi_ray.config.training import TrainSettings
from redi_ray.train.optim import clip_gradients, learning_rate_at, make_optimizer, update_norm


def schedule(total: int, **settings: object) -> list[float]:
    return [learning_rate_at(step, total, TrainSettings(learning_rate=1.0, **settings)) for step in range(total)]  # type: ignore[arg-type]


def test_linear_schedule_by_hand() -> None:
    """10 steps, 20% warm-up: 2 steps up to the peak, 8 steps down, the last one still above zero."""
    expected = [0.5, 1.0, *[1 - k / 8 for k in range(8)]]
    assert schedule(10, warmup_ratio=0.2) == pytest.approx(expected)


def test_other_shapes_and_floor() -> None:
    cosine = schedule(9, lr_schedule="cosine", warmup_ratio=0.1, min_lr_ratio=0.1)
    assert cosine[0] == 1.0  # one step of warm-up
    assert cosine[5] == pytest.approx(0.1 + 0.9 * 0.5)  # half way
    assert all(a >= b for a, b in pairwise(cosine))
    assert cosine[-1] > 0.1
    assert schedule(5, lr_schedule="constant", warmup_ratio=0.0) == [1.0] * 5
    assert schedule(1) == [1.0]  # a run of one step trains at the peak


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_update_norm_is_the_norm_of_the_change(weight_decay: float) -> None:
    """Worked out from the optimizer's state, it equals the difference of weights before and after, decay included."""
    policy = tiny_policy()
    settings = TrainSettings(learning_rate=0.01, weight_decay=weight_decay)
    optimizer = make_optimizer(policy, settings)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        before = [p.detach().clone() for p in policy.parameters()]
        for p in policy.parameters():
            p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)
        optimizer.step()
        changes = [(p.detach() - b).flatten() for p, b in zip(policy.parameters(), before, strict=True)]
        assert update_norm(optimizer) == pytest.approx(float(torch.cat(changes).norm()), rel=1e-9)


def test_decay_is_for_matrices_only() -> None:
    groups = make_optimizer(tiny_policy(), TrainSettings(weight_decay=0.5)).param_groups
    decays = {p.ndim: group["weight_decay"] for group in groups for p in group["params"]}
    assert decays == {2: 0.5, 1: 0.0}


def test_clipping() -> None:
    """The norm before clipping comes back; 0 turns clipping off; a norm that is not finite leaves gradients alone."""

    def clipped(values: list[float], max_norm: float) -> tuple[float, list[float]]:
        parameter = nn.Parameter(torch.zeros(len(values)))
        parameter.grad = torch.tensor(values)
        return clip_gradients([parameter], max_norm), parameter.grad.tolist()

    assert clipped([3.0, 4.0], 1.0) == (5.0, pytest.approx([0.6, 0.8], rel=1e-5))
    assert clipped([3.0, 4.0], 0.0) == (5.0, [3.0, 4.0])
    assert clipped([3.0, 4.0], 10.0) == (5.0, [3.0, 4.0])
    norm, values = clipped([math.inf, 1.0], 1.0)
    assert math.isinf(norm)
    assert values == [math.inf, 1.0]
