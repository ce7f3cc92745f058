"""FSDP2: every decoder layer is gathered when it runs; embedding, final norm and head belong to the root."""

from __future__ import annotations

import os
from typing import Literal

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from redi_ray.modeling.policy import Policy, decoder_layers

PRODUCT_CACHE = 32
"""Products that oneDNN remembers: those of one pack, with room."""


def compute_dtype(precision: Literal["auto", "fp32", "bf16"], device: torch.device) -> torch.dtype | None:
    """Type the parameters are gathered and computed in; None keeps that of the master weights."""
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" else "fp32"
    return torch.bfloat16 if precision == "bf16" else None


def bound_product_caches() -> None:
    """Keep the caches of oneDNN, which multiplies half precision on CPUs, small; what the user has set stays.

    For every shape of a product they keep a primitive with its scratch memory, about 1 MB, for 1,024 shapes each. Packs
    differ in length, so memory grew with every step: to 1.5 GB in 12 steps of a small model that needs 0.3 GB where all
    shapes are the same. What is cached serves the layers of one pack. Both variables are read at the first such product.
    """
    for name in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
        os.environ.setdefault(name, str(PRODUCT_CACHE))


def shard_policy(
    policy: Policy,
    *,
    world_size: int,
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    device: torch.device | str = "cpu",
) -> None:
    """Shard the policy's parameters over all ranks, in place; master weights keep their type.

    One rank without mixed precision is left as it is. One rank with bf16 is still wrapped, since it is FSDP2 that keeps
    the float32 master weights: it needs a process group of one, which is made here if there is none. Gradients are
    averaged over ranks in float32, or in the masters' type.
    """
    device = torch.device(device)
    dtype = compute_dtype(precision, device)
    policy.to(device)
    if dtype is not None and device.type == "cpu":
        bound_product_caches()
    if world_size == 1 and dtype is None:
        return
    if not dist.is_initialized():
        assert world_size == 1, f"world size {world_size} needs an initialised process group"
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    mesh = init_device_mesh(device.type, (world_size,))
    # Coefficients are float32 inputs of the root; casting inputs would round them.
    mixed = MixedPrecisionPolicy(
        param_dtype=dtype, reduce_dtype=torch.float32 if dtype else None, cast_forward_inputs=False
    )
    for layer in decoder_layers(policy):
        fully_shard(layer, mesh=mesh, mp_policy=mixed)
    fully_shard(policy, mesh=mesh, mp_policy=mixed)
    policy.sharded = True
