"""Products by oneDNN are those of torch to float32's rounding, whatever the layout, and leave no memory behind."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from redi_ray.modeling import products
from redi_ray.modeling.policy import Policy
from redi_ray.modeling.products import OneDnnLinear, has_onednn_products, matmul, use_onednn

needs_onednn = pytest.mark.skipif(not has_onednn_products(), reason="this build of torch has no oneDNN products")


@pytest.fixture
def onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor where oneDNN is faster, whatever the size."""
    monkeypatch.setattr(products, "onednn_is_faster", lambda: True)
    monkeypatch.setattr(products, "LEAST_WORK", 1)


LAYOUTS = {
    "plain": lambda x: x,
    "transposed": lambda x: x.T.contiguous().T,
    "gaps between rows": lambda x: torch.cat([x, x], 1)[:, : x.shape[1]],
    "gaps, transposed": lambda x: torch.cat([x, x], 0).T.contiguous()[:, : x.shape[0]].T,
}


@needs_onednn
@pytest.mark.parametrize("rows", [0, 1, 37])
@pytest.mark.parametrize("left", LAYOUTS)
@pytest.mark.parametrize("right", LAYOUTS)
def test_any_layout(onednn: None, left: str, right: str, rows: int) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(rows, 19, generator=generator), torch.randn(19, 23, generator=generator)
    product = matmul(LAYOUTS[left](a), LAYOUTS[right](b))
    torch.testing.assert_close(product.double(), a.double() @ b.double(), rtol=1e-5, atol=1e-5)


def gradients(layer: nn.Linear, input: Tensor) -> list[Tensor]:
    """Output and gradients of a loss that is not linear in the output."""
    input = input.clone().requires_grad_()
    layer.zero_grad()
    output = layer(input)
    output.sin().sum().backward()
    parameters = [p.grad for p in layer.parameters() if p.grad is not None]
    assert input.grad is not None
    return [output.detach(), input.grad, *parameters]


@needs_onednn
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_linear_layer_has_the_same_gradients(
    onednn: None, monkeypatch: pytest.MonkeyPatch, bias: bool, frozen: bool
) -> None:
    """And both it and its gradients are made by `matmul`."""
    calls = []
    monkeypatch.setattr(products, "matmul", lambda left, right: calls.append(left.shape) or matmul(left, right))
    torch.manual_seed(0)
    layer, input = nn.Linear(24, 40, bias), torch.randn(2, 7, 24)
    layer.weight.requires_grad_(not frozen)
    expected, ours = gradients(layer, input), nn.ModuleList([layer])
    use_onednn(ours)
    assert type(layer) is OneDnnLinear
    found = gradients(layer, input)
    assert len(found) == len(expected) == 2 + bias + (not frozen)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert len(calls) == 2 + (not frozen)


@needs_onednn
def test_other_layers_and_types_are_left_alone(onednn: None) -> None:
    """A subclass may compute something else; float64 stays exact; empty inputs, as experts get them, work."""

    class Scaled(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return 2 * super().forward(input)

    model = nn.ModuleList([Scaled(3, 4), nn.Linear(3, 4), nn.Linear(3, 4, dtype=torch.float64)])
    keys = list(model.state_dict())
    use_onednn(model)
    assert [type(layer) for layer in model] == [Scaled, OneDnnLinear, OneDnnLinear]
    assert list(model.state_dict()) == keys
    wide = torch.randn(5, 3, dtype=torch.float64)
    assert torch.equal(model[2](wide), nn.functional.linear(wide, model[2].weight, model[2].bias))
    assert model[1](torch.empty(0, 3)).shape == (0, 4)


def test_small_products_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """oneDNN would spend longer on preparing for their shape than it saves."""
    monkeypatch.setattr(products, "onednn_is_faster", lambda: True)
    monkeypatch.setattr(products, "LEAST_WORK", 3 * 4 * 5)
    assert products.by_onednn(torch.ones(3, 4), torch.ones(4, 5))
    assert products.by_onednn(torch.ones(1, 3, 4), torch.ones(5, 4))  # as a layer asks, with its weight
    assert not products.by_onednn(torch.ones(2, 4), torch.ones(4, 5))


@pytest.mark.parametrize("faster", [False, True])
def test_policy_uses_them_where_they_are_faster(monkeypatch: pytest.MonkeyPatch, faster: bool) -> None:
    monkeypatch.setattr(products, "onednn_is_faster", lambda: faster)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    policy = Policy(Qwen2ForCausalLM(Qwen2Config(vocab_size=11, num_key_value_heads=1, **sizes)))
    assert (type(policy.model.model.layers[0].mlp.up_proj) is OneDnnLinear) == faster


PRODUCTS = """
import resource, sys, torch
from redi_ray.modeling import products
torch.set_num_threads(1)
products.onednn_is_faster, products.LEAST_WORK = lambda: True, 1
products.bound_product_caches()
dtype = getattr(torch, sys.argv[1])
weight = torch.randn(256, 1024, dtype=dtype)
def multiply(lengths):
    for length in lengths:
        products.matmul(torch.randn(length, 256, dtype=dtype), weight)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = multiply([998, *range(400, 480, 2)])
print(multiply(range(480, 1000, 2)) - before)
"""


@needs_onednn
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_products_of_many_shapes_leave_nothing_behind(dtype: str) -> None:
    """260 lengths; with torch's own settings those in bfloat16 add about 1 MB each, where there are instructions for it."""
    done = subprocess.run([sys.executable, "-c", PRODUCTS, dtype], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 60
