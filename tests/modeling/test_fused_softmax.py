"""The fused passes over logits give autograd's gradient, with one target a row or several, in any memory."""

from __future__ import annotations

import pytest
import torch

from redi_ray.modeling import fused_softmax
from redi_ray.modeling.fused_softmax import gradient, log_sums, shaped


def inputs(targets: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`logits[7, 29]`, targets and coefficients `[7, targets]`."""
    torch.manual_seed(0)
    chosen = torch.stack([torch.randperm(29)[:targets] for _ in range(7)])
    return torch.randn(7, 29, dtype=dtype), chosen, torch.randn(7, targets, dtype=dtype)


@pytest.mark.parametrize("targets", [1, 4])
@pytest.mark.parametrize(("scale", "softcap"), [(1.0, None), (0.25, None), (2.0, 3.0)])
def test_equals_autograd(targets, scale, softcap):
    logits, chosen, coefficients = inputs(targets)
    leaf = logits.clone().requires_grad_()
    (coefficients * shaped(leaf, scale, softcap).log_softmax(-1).gather(1, chosen)).sum().backward()
    sums, picked = log_sums(logits, scale, softcap), logits.gather(1, chosen)
    for out in (torch.full_like(logits, torch.nan), logits):
        gradient(logits, sums, picked, chosen, coefficients, out, scale, softcap)
        torch.testing.assert_close(out, leaf.grad, rtol=1e-12, atol=1e-13)


def test_a_sure_token_keeps_its_gradient_in_half_precision():
    """1 - p is far below bfloat16's step at 1: it is taken before it is rounded."""
    logits = torch.zeros(1, 29)
    logits[0, 3] = 12.0
    chosen, out = torch.tensor([[3]]), torch.empty(1, 29, dtype=torch.bfloat16)
    gradient(logits, log_sums(logits, 1.0, None), logits[:, 3:4], chosen, torch.ones(1, 1), out, 1.0, None)
    expected = 1 - logits.softmax(-1)[0, 3]
    assert 1e-4 < expected < 2e-3
    assert float(out[0, 3]) == pytest.approx(float(expected), rel=0.01)


def test_where_nothing_compiles_they_run_as_they_stand(monkeypatch, caplog):
    def refuse(*args, **kwargs):
        raise RuntimeError("no Triton here")

    monkeypatch.setattr(torch, "compile", lambda function: refuse)
    fused_softmax.kernels.cache_clear()
    try:
        assert fused_softmax.kernels(torch.device("cpu")) == (log_sums, gradient)
    finally:
        fused_softmax.kernels.cache_clear()
    assert "no Triton here" in caplog.text
