"""FSDP2: every decoder layer is gathered when it runs; embedding, final norm and head belong to the root."""

from __future__ import annotations

from typing import Literal

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from redi_ray.modeling.policy import Policy, decoder_layers
from redi_ray.modeling.products import bound_product_caches


def compute_dtype(precision: Literal["auto", "fp32", "bf16"], device: torch.device) -> torch.dtype | None:
    """Type the parameters are gathered and computed in; None keeps that of the master weights."""
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" else "fp32"
    return torch.bfloat16 if precision == "bf16" else None


def shard_policy(
    policy: Policy,
    *,
    world_size: int,
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    device: torch.device | str = "cpu",
    keep_gathered: bool = False,
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
    if policy.float32_head is not None:
        fully_shard(policy.float32_head, mesh=mesh, mp_policy=MixedPrecisionPolicy(cast_forward_inputs=False))
    fully_shard(policy, mesh=mesh, mp_policy=mixed)
    policy.sharded, policy.keep_gathered = True, keep_gathered
    if keep_gathered and isinstance(policy, FSDPModule):  # which `fully_shard` has made of it
        policy.set_reshard_after_forward(False)


def begin_pack(policy: Policy, last: bool) -> None:
    """Called before each pack of a step. A policy that keeps its weights gathered gives them back, and reduces its gradients,
    behind the last alone."""
    if policy.keep_gathered and isinstance(policy, FSDPModule):
        policy.set_requires_gradient_sync(last)
        policy.set_reshard_after_backward(last)
