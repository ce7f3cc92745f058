"""Matrix products on CPUs, by what is faster on the processor at hand. Everything else, GPUs included, is left to torch.

On x86 torch multiplies float32 with Intel's MKL, which does not use AVX-512 on AMD's processors; oneDNN, which comes with
torch, does, with float32 sums in another order. On 2 cores of a Zen 5 it is 2.0 to 2.4 times as fast at the shapes of training.

bfloat16 is oneDNN's in torch anyway. Where the processor has no fast instructions for it, the numbers are widened to float32,
multiplied, and the result is rounded: the same product, sums being float32 either way. A core of an Intel Xeon whose AMX is
hidden makes 83 GFLOP/s in bfloat16 and 150 in float32; with oneDNN held to AVX-512 or AVX2 alone it is 29 to 102, and 11 to 104.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

LEAST_WORK = 1 << 26
"""Multiplications in a product from which oneDNN is used: it takes about 0.6 ms to prepare for a shape it does not remember, and
packs differ in length. Small models are the faster for it."""
REMEMBERED_PRODUCTS = 32
"""Shapes of products that oneDNN remembers: those of one pack, with room."""


@cache
def onednn_is_faster() -> bool:
    """Whether this processor has AVX-512 that MKL leaves unused. The same on every machine of a kind, as results must be."""
    name = torch.cpu.get_capabilities().get("cpu_name", "") if hasattr(torch.cpu, "get_capabilities") else ""
    return (
        "AMD" in str(name)
        and torch.backends.cpu.get_cpu_capability().startswith("AVX512")
        and torch.backends.mkl.is_available()
        and has_onednn_products()
    )


@cache
def bfloat16_is_slower() -> bool:
    """Whether this x86 processor multiplies float32 faster: all but those with AMX, and AMD's with AVX-512 for bfloat16."""
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    fast = found.get("amx_bf16") or ("AMD" in str(found.get("cpu_name", "")) and found.get("avx512_bf16"))
    return found.get("architecture") == "x86_64" and not fast


def has_onednn_products() -> bool:
    """Whether this build of torch can multiply plain float32 tensors with oneDNN."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def bound_product_caches() -> None:
    """Keep oneDNN's caches small; what the user has set stays.

    For every shape of a product they keep a primitive with its scratch memory, about 1 MB, for 1,024 shapes each. Packs
    differ in length, so memory grew with every step: to 1.5 GB in 12 steps of a small model that needs 0.3 GB where all
    shapes are the same. What is cached serves the layers of one pack. Both variables are read at the first such product.
    """
    for name in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
        os.environ.setdefault(name, str(REMEMBERED_PRODUCTS))


def by_onednn(left: Tensor, right: Tensor) -> bool:
    """Whether the product of `left[..., K]` with `right[K, N]`, or with its transpose, is made by oneDNN."""
    if not (left.dtype == right.dtype == torch.float32 and left.is_cpu):
        return False
    return left.numel() // left.shape[-1] * right.numel() >= LEAST_WORK and onednn_is_faster()


def is_slow(x: Tensor) -> bool:
    """Whether products of this tensor's type are faster when it is widened to float32 first."""
    return x.dtype == torch.bfloat16 and x.is_cpu and bfloat16_is_slower()


def by_float32(left: Tensor, right: Tensor) -> bool:
    """Whether the product of `left[..., K]` with `right[K, N]`, or with its transpose, is made in float32 and rounded."""
    return left.dtype == right.dtype and left.numel() // left.shape[-1] * right.numel() >= LEAST_WORK and is_slow(left)


def matmul(left: Tensor, right: Tensor) -> Tensor:
    """`left[M, K] @ right[K, N]`, either one transposed or not; without gradient."""
    if by_float32(left, right):
        return matmul(left.float(), right.float()).to(left.dtype)
    if not by_onednn(left, right):
        return left @ right
    # With gaps between the right side's rows oneDNN is some hundred times slower; the left side it copies itself.
    right = right if right.is_contiguous() or right.T.is_contiguous() else right.contiguous()
    return torch.ops.mkldnn._linear_pointwise(left, right.T, None, "none", [], "")


class _Linear(torch.autograd.Function):
    """`input[T, K] @ weight[N, K].T + bias[N]` and its gradients, each product by `matmul`."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(input, weight)
        output = matmul(input, weight.T)
        return output if bias is None else output.add_(bias)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        grad = grad_outputs[0]
        wanted = ctx.needs_input_grad
        return (
            matmul(grad, weight) if wanted[0] else None,
            matmul(grad.T, input) if wanted[1] else None,
            grad.sum(0) if wanted[2] else None,
        )


class FastLinear(nn.Linear):
    """`nn.Linear` whose products on the CPU are made by `matmul`, unless `torch.compile` makes them."""

    def forward(self, input: Tensor) -> Tensor:
        ours = not torch.compiler.is_compiling() and (by_onednn(input, self.weight) or by_float32(input, self.weight))
        if not ours:
            return super().forward(input)
        flat = _Linear.apply(input.flatten(0, -2), self.weight, self.bias)
        return flat.unflatten(0, input.shape[:-1])


def use_fast_products(model: nn.Module) -> None:
    """Turn the model's plain linear layers into `FastLinear`, in place, where that may be faster."""
    if not onednn_is_faster() and not bfloat16_is_slower():
        return
    if onednn_is_faster():
        bound_product_caches()
    for module in model.modules():
        if type(module) is nn.Linear:  # a subclass has a forward of its own
            module.__class__ = FastLinear
