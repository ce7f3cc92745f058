"""Products by oneDNN are those of torch to float32's rounding, whatever the layout, and leave no memory behind; products of
bfloat16 that are made in float32 are rounded once."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from redi_ray.modeling import products
from redi_ray.modeling.policy import Policy
from redi_ray.modeling.products import FastLinear, has_onednn_products, matmul, use_fast_products

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
    use_fast_products(ours)
    assert type(layer) is FastLinear
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
    use_fast_products(model)
    assert [type(layer) for layer in model] == [Scaled, FastLinear, FastLinear]
    assert list(model.state_dict()) == keys
    wide = torch.randn(5, 3, dtype=torch.float64)
    assert torch.equal(model[2](wide), nn.functional.linear(wide, model[2].weight, model[2].bias))
    assert model[1](torch.empty(0, 3)).shape == (0, 4)


def test_bfloat16_by_float32_is_rounded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer's output and its gradients, against the exact products of the same numbers."""
    monkeypatch.setattr(products, "bfloat16_is_slower", lambda: True)
    monkeypatch.setattr(products, "LEAST_WORK", 1)
    torch.manual_seed(0)
    layer, wide = nn.ModuleList([nn.Linear(24, 40).bfloat16()]), nn.Linear(24, 40).double()
    wide.load_state_dict(layer[0].state_dict())
    use_fast_products(layer)
    inputs, grads = torch.randn(7, 24).bfloat16().requires_grad_(), torch.randn(7, 40).bfloat16()
    exact = inputs.detach().double().requires_grad_()
    layer[0](inputs).backward(grads)
    wide(exact).backward(grads.double())
    product = matmul(inputs.detach(), layer[0].weight.detach().T)
    found = [product, inputs.grad, layer[0].weight.grad]
    right = [exact.detach() @ wide.weight.detach().T, exact.grad, wide.weight.grad]
    torch.testing.assert_close(found, right, rtol=2**-8, atol=1e-6, check_dtype=False)
    assert all(x is not None and x.dtype == torch.bfloat16 for x in found)


@pytest.mark.parametrize(
    ("processor", "slower"),
    [
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, False),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": False}, True),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": True, "amx_bf16": False}, False),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": False, "amx_bf16": False}, True),
        ({"cpu_name": "Neoverse", "architecture": "aarch64"}, False),
    ],
)
def test_which_processors_widen_bfloat16(monkeypatch: pytest.MonkeyPatch, processor: dict, slower: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "x86_64", **processor}, raising=False)
    assert products.bfloat16_is_slower.__wrapped__() == slower


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
    monkeypatch.setattr(products, "bfloat16_is_slower", lambda: False)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    policy = Policy(Qwen2ForCausalLM(Qwen2Config(vocab_size=11, num_key_value_heads=1, **sizes)))
    assert (type(policy.model.model.layers[0].mlp.up_proj) is FastLinear) == faster


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
