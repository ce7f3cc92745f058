"""The fused head gives the log-probs and the gradients of plain autograd, whatever the chunk, scale and softcap, with terms of
single log-probs too.
"""

from __future__ import annotations

import math

import pytest
import torch

from redi_ray.modeling import logps, products
from redi_ray.modeling.logps import HeadShape, per_token_logps, weighted_logps


def plain(hidden, weight, targets, head):
    logits = head.scale * (hidden @ weight.T)
    if head.softcap is not None:
        logits = head.softcap * torch.tanh(logits / head.softcap)
    return logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]


def inputs(dtype=torch.float64, tokens=13, size=8, vocabulary=29):
    torch.manual_seed(0)
    hidden = torch.randn(tokens, size, dtype=dtype, requires_grad=True)
    weight = torch.randn(vocabulary, size, dtype=dtype, requires_grad=True)
    return hidden, weight, torch.randint(0, vocabulary, (tokens,)), torch.randn(tokens, dtype=dtype)


FACTORS = torch.linspace(-1, 2, 23, dtype=torch.float64)


def local(rows: slice, logps: torch.Tensor) -> torch.Tensor:
    """Derivative of factor * logp^2, every row with its own factor."""
    return 2 * FACTORS[rows].to(logps) * logps


@pytest.mark.parametrize("chunk", [1, 4, 13, 512])
@pytest.mark.parametrize(("scale", "softcap"), [(1.0, None), (0.25, None), (2.0, 3.0)])
def test_equals_autograd(chunk, scale, softcap):
    hidden, weight, targets, coefficients = inputs()
    head = HeadShape(chunk, scale, softcap)
    expected = plain(hidden, weight, targets, head)
    grads = torch.autograd.grad((coefficients * expected).sum(), (hidden, weight), retain_graph=True)
    total, logps = weighted_logps(hidden, weight, targets, coefficients, head)
    ours = torch.autograd.grad(total, (hidden, weight))
    tolerance = {"rtol": 1e-12, "atol": 1e-13}
    torch.testing.assert_close(total, (coefficients * expected).sum(), **tolerance)
    torch.testing.assert_close(logps, expected, **tolerance)
    torch.testing.assert_close(per_token_logps(hidden, weight, targets, head), expected, **tolerance)
    torch.testing.assert_close(ours, grads, **tolerance)

    grads = torch.autograd.grad((coefficients * expected + FACTORS[:13] * expected.square()).sum(), (hidden, weight))
    total, _ = weighted_logps(hidden, weight, targets, coefficients, head, local=local)
    torch.testing.assert_close(torch.autograd.grad(total, (hidden, weight)), grads, **tolerance)


@pytest.mark.parametrize("in_place", [False, True])
def test_a_bias_of_the_head(in_place):
    """Log-probs and all three gradients, with scale and softcap behind it."""
    hidden, weight, targets, coefficients = inputs()
    bias = torch.randn(len(weight), dtype=torch.float64, requires_grad=True)
    wide = torch.cat([hidden, torch.ones(len(hidden), 1)], dim=1)
    head = HeadShape(5, 0.5, 3.0)
    expected = plain(wide, torch.cat([weight, bias[:, None]], dim=1), targets, head)
    grads = torch.autograd.grad((coefficients * expected).sum(), (hidden, weight, bias))
    buffer = torch.zeros_like(weight) if in_place else None
    total, logps = weighted_logps(hidden, weight, targets, coefficients, head, grad_weight=buffer, bias=bias)
    total.backward()
    torch.testing.assert_close((logps, per_token_logps(hidden, weight, targets, head, bias)), (expected, expected))
    torch.testing.assert_close((hidden.grad, weight.grad if buffer is None else buffer, bias.grad), grads)


def test_weight_gradient_can_be_added_to_a_buffer():
    """The buffer gets exactly what autograd would return; a scaled loss, which would be wrong then, is refused."""
    hidden, weight, targets, coefficients = inputs()
    head = HeadShape(4)
    total, _ = weighted_logps(hidden, weight, targets, coefficients, head)
    expected = torch.autograd.grad(total, (hidden, weight))
    buffer = torch.ones_like(weight)
    total, _ = weighted_logps(hidden, weight, targets, coefficients, head, grad_weight=buffer)
    torch.testing.assert_close(torch.autograd.grad(total, hidden)[0], expected[0], rtol=0, atol=0)
    torch.testing.assert_close(buffer - 1, expected[1], rtol=1e-12, atol=1e-13)
    total, _ = weighted_logps(hidden, weight, targets, coefficients, head, grad_weight=buffer)
    with pytest.raises(AssertionError, match="cannot be scaled"):
        (2 * total).backward()


def test_by_hand():
    """One-dimensional hidden state 1, weights (0, ln 3): probabilities 1/4 and 3/4.

    REDI with one chosen token (id 1) and one rejected (id 0), alpha 0.8: coefficients -1 and 0.8.
    Loss -ln(3/4) + 0.8 ln(1/4). d/dlogits: chosen -(0 - 1/4, 1 - 3/4), rejected 0.8 (1 - 1/4, -3/4);
    together 1/4 + 0.6 = 0.85 for id 0 and -0.85 for id 1, which is also the weights' gradient.
    """
    hidden = torch.ones(2, 1, dtype=torch.float64, requires_grad=True)
    weight = torch.tensor([[0.0], [math.log(3)]], dtype=torch.float64, requires_grad=True)
    total, logps = weighted_logps(
        hidden, weight, torch.tensor([1, 0]), torch.tensor([-1.0, 0.8], dtype=torch.float64), HeadShape(1)
    )
    total.backward()
    assert logps.tolist() == pytest.approx([math.log(0.75), math.log(0.25)], abs=1e-15)
    assert total.item() == pytest.approx(-math.log(0.75) + 0.8 * math.log(0.25), abs=1e-15)
    assert weight.grad.flatten().tolist() == pytest.approx([0.85, -0.85], abs=1e-15)
    assert hidden.grad.flatten().tolist() == pytest.approx([-0.25 * math.log(3), -0.6 * math.log(3)], abs=1e-15)


@pytest.mark.parametrize("widened", [False, True])
@pytest.mark.parametrize("in_place", [False, True])
def test_half_precision_keeps_float32_logps(monkeypatch: pytest.MonkeyPatch, widened: bool, in_place: bool):
    """bfloat16 hidden states and weights: the log-softmax is float32, so log-probs are right to the products' rounding."""
    monkeypatch.setattr(products, "bfloat16_is_slower", lambda: widened)
    monkeypatch.setattr(products, "LEAST_WORK", 1)
    monkeypatch.setattr(logps, "WIDENED_ROWS", 300)
    hidden, weight, targets, coefficients = (x.detach() for x in inputs(torch.float32, vocabulary=1100))
    hidden, weight = hidden.bfloat16().requires_grad_(), weight.bfloat16().requires_grad_()
    expected = plain(hidden.double(), weight.double(), targets, HeadShape())
    grads = torch.autograd.grad((coefficients * expected).sum(), (hidden, weight))
    buffer = torch.zeros_like(weight) if in_place else None
    total, found = weighted_logps(hidden, weight, targets, coefficients, HeadShape(4), grad_weight=buffer)
    total.backward()
    grad_weight = buffer if in_place else weight.grad
    assert found.dtype == torch.float32
    assert hidden.grad.dtype == grad_weight.dtype == torch.bfloat16
    rounding = {"rtol": 1e-4, "atol": 1e-4} if widened else {"rtol": 0.02, "atol": 0.05}
    torch.testing.assert_close(found.double(), expected, **rounding)
    torch.testing.assert_close((hidden.grad, grad_weight), grads, rtol=0.02, atol=0.02)


@pytest.mark.skipif(not products.has_onednn_products(), reason="this build of torch has no oneDNN products")
@pytest.mark.parametrize("faster", [False, True])
@pytest.mark.parametrize("in_place", [False, True])
def test_products_of_either_library(monkeypatch: pytest.MonkeyPatch, faster: bool, in_place: bool):
    """Float32 by torch's own products and by oneDNN's, over a vocabulary of several pieces and a rest."""
    monkeypatch.setattr(products, "onednn_is_faster", lambda: faster)
    monkeypatch.setattr(products, "LEAST_WORK", 1)
    hidden, weight, targets, coefficients = inputs(torch.float32, vocabulary=2 * logps.PIECE_ROWS + 100)
    wide = [x.detach().double().requires_grad_() for x in (hidden, weight)]
    head = HeadShape(chunk_tokens=5, scale=0.5, softcap=20.0)
    expected = plain(*wide, targets, head)
    grads = torch.autograd.grad((coefficients * expected).sum(), wide)
    buffer = torch.zeros_like(weight) if in_place else None
    total, found = weighted_logps(hidden, weight, targets, coefficients, head, grad_weight=buffer)
    total.backward()
    ours = [found, per_token_logps(hidden, weight, targets, head), hidden.grad, buffer if in_place else weight.grad]
    for value, right in zip(ours, [expected, expected, *grads], strict=True):
        assert value is not None
        torch.testing.assert_close(value.double(), right.detach(), rtol=1e-5, atol=1e-5)


def test_huge_logits_do_not_overflow():
    hidden = torch.tensor([[1e4]], requires_grad=True)
    weight = torch.tensor([[1e4], [-1e4]], requires_grad=True)
    total, logps = weighted_logps(hidden, weight, torch.tensor([0]), torch.tensor([-1.0]), HeadShape())
    assert logps.item() == 0
    assert torch.isfinite(torch.autograd.grad(total, hidden)[0]).all()


def test_nothing_to_score_gives_zero_gradients():
    """A dummy pack must still take part in the backward pass."""
    hidden, weight, *_ = inputs()
    total, _ = weighted_logps(hidden[:0], weight, torch.zeros(0).long(), torch.zeros(0), HeadShape())
    total.backward()
    assert weight.grad.abs().max() == 0
    assert hidden.grad.abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("block_bytes", [1, 1000])
def test_blocks_of_a_chunk_change_nothing(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, block_bytes: int):
    """One row at a time, or a few with a rest: the values and both gradients of a single block, to the last bit."""

    def run() -> list[torch.Tensor]:
        torch.manual_seed(0)
        hidden, weight = torch.randn(23, 8).to(dtype).requires_grad_(), torch.randn(50, 8).to(dtype).requires_grad_()
        targets, coefficients = torch.randint(0, 50, (23,)), torch.randn(23)
        head = HeadShape(chunk_tokens=10, softcap=3.0)
        total, found = weighted_logps(hidden, weight, targets, coefficients, head, local=local)
        total.backward()
        assert hidden.grad is not None
        assert weight.grad is not None
        return [found, per_token_logps(hidden, weight, targets, head), hidden.grad, weight.grad]

    whole = run()
    monkeypatch.setattr(logps, "BLOCK_BYTES", block_bytes)
    for expected, blocked in zip(whole, run(), strict=True):
        torch.testing.assert_close(blocked, expected, rtol=0, atol=0)
