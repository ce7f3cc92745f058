"""The KL from a frozen model over the whole vocabulary, in the fused head: value and gradients are those of plain autograd."""

from __future__ import annotations

import math

import pytest
import torch
from test_logps import FACTORS, inputs, local

from redi_ray.modeling.logps import HeadShape, weighted_logps
from redi_ray.modeling.pull import Pull

EXACT = {"rtol": 1e-12, "atol": 1e-13}


def logs(hidden, weight, bias, scale, softcap):
    z = scale * (hidden @ weight.T + bias)
    return (z if softcap is None else softcap * torch.tanh(z / softcap)).log_softmax(1)


@pytest.mark.parametrize("chunk", [1, 4, 512])
@pytest.mark.parametrize(("scale", "softcap"), [(1.0, None), (0.25, None), (2.0, 3.0)])
@pytest.mark.parametrize("in_place", [False, True])
def test_equals_autograd(chunk, scale, softcap, in_place):
    """Beside coefficients and terms of single log-probs, with a bias, a frozen model of another width, scale and softcap."""
    hidden, weight, targets, coefficients = inputs()
    bias = torch.randn(len(weight), dtype=torch.float64, requires_grad=True)
    theirs, head = torch.randn(13, 5, dtype=torch.float64), torch.randn(len(weight), 5, dtype=torch.float64)
    other = torch.randn(len(weight), dtype=torch.float64)
    counts = torch.rand(13, dtype=torch.float64)
    p, q = logs(hidden, weight, bias, scale, softcap), logs(theirs, head, other, 0.5, 7.0)
    picked, divergence = p.gather(1, targets[:, None])[:, 0], (p.exp() * (p - q)).sum(1)
    expected = (coefficients * picked + FACTORS[:13] * picked.square() + counts * divergence).sum()
    grads = torch.autograd.grad(expected, (hidden, weight, bias))
    pull = Pull(theirs, head, other, counts, 0.5, 7.0)
    buffer = torch.zeros_like(weight) if in_place else None
    more = {"bias": bias, "local": local, "pull": pull, "grad_weight": buffer}
    total, _ = weighted_logps(hidden, weight, targets, coefficients, HeadShape(chunk, scale, softcap), **more)
    total.backward()
    torch.testing.assert_close((hidden.grad, weight.grad if buffer is None else buffer, bias.grad), grads, **EXACT)
    torch.testing.assert_close(pull.values, divergence.detach(), **EXACT)


def test_towards_itself_there_is_nothing():
    """Value and gradient are 0, whatever the weight; that of (.7, .3) from (.4, .6) is KL(P||Q) = .1837868974."""
    hidden, weight, targets, _ = inputs()
    pull = Pull(hidden.detach(), weight.detach(), None, torch.full((13,), 3.0, dtype=torch.float64))
    total, _ = weighted_logps(hidden, weight, targets, torch.zeros(13), HeadShape(4), pull=pull)
    total.backward()
    assert float(pull.values.abs().max()) < 1e-15
    assert float(hidden.grad.abs().max()) < 1e-14
    ours, theirs = (
        torch.tensor([[math.log(share)], [math.log(1 - share)]], dtype=torch.float64) for share in (0.7, 0.4)
    )
    one = torch.ones(1, 1, dtype=torch.float64)
    pull = Pull(one, theirs, None, one[0])
    weighted_logps(one, ours, torch.zeros(1, dtype=torch.long), torch.zeros(1), HeadShape(), pull=pull)
    assert float(pull.values) == pytest.approx(0.1837868974, abs=1e-9)
