"""The optimizer side of a step: AdamW, the learning rate as a pure function of the step, clipping, the update norm.

Everything here works on plain parameters and on FSDP2's DTensors alike. Norms are global: over all parameters, and over
all ranks where these are sharded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from redi_ray.config.training import TrainSettings


def learning_rate_at(step: int, total_steps: int, settings: TrainSettings) -> float:
    """The learning rate of step `step` (the first is 0) of `total_steps`.

    Warm-up takes `w = ceil(warmup_ratio * total_steps)` steps and ends at the peak: peak * (step + 1) / w, so no step is
    spent at rate 0. After it, with `x = (step - w) / (total_steps - w)` in [0, 1): linear 1 - x, cosine (1 + cos(pi x)) / 2,
    constant 1, between the peak and `min_lr_ratio * peak`.
    """
    warmup = math.ceil(settings.warmup_ratio * total_steps)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    x = (step - warmup) / max(1, total_steps - warmup)
    shape = {"linear": 1 - x, "cosine": (1 + math.cos(math.pi * x)) / 2, "constant": 1.0}[settings.lr_schedule]
    return settings.learning_rate * (settings.min_lr_ratio + (1 - settings.min_lr_ratio) * shape)


FACTOR = "lr_factor"
"""Of a group: what its learning rate is times the others'."""


def make_optimizer(policy: nn.Module, settings: TrainSettings) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; weight decay on the factors of matrix products and on embeddings only. A scalar head
    with a rate of its own is a group of its own."""
    decayed = {
        id(p)
        for module in policy.modules()
        for name, p in module.named_parameters(recurse=False)
        if is_decayed(module, name, p)
    }
    trainable = [p for p in policy.parameters() if p.requires_grad]
    rate, head = getattr(policy, "head_rate", 1.0), getattr(policy, "float32_head", None)
    apart = {id(p) for p in head.parameters()} if head is not None and rate != 1.0 else set()
    own = [p for p in trainable if id(p) in apart]
    trainable = [p for p in trainable if id(p) not in apart]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trainable if id(p) in decayed], "weight_decay": settings.weight_decay},
        {"params": [p for p in trainable if id(p) not in decayed], "weight_decay": 0.0},
        {"params": own, "weight_decay": settings.weight_decay, FACTOR: rate},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.learning_rate,
        betas=(settings.adam_beta1, settings.adam_beta2),
        eps=settings.adam_eps,
        fused=True,  # one pass over the state, and no temporary tensors
    )


NORM = re.compile(r"Norm(?!Head)")
"""In the class name of whatever normalises; a head that normalises its own weight multiplies by it all the same."""
RATES = ("A_log", "D")
"""How fast a state-space layer forgets, and what it lets past: by channel and state, but nothing is multiplied with them as
with a matrix. Decay would give all channels the same rate."""


def is_decayed(module: nn.Module, name: str, parameter: Tensor) -> bool:
    """Whether weight decay is for this parameter of this very module: not for biases, norms, and other scales.

    The number of dimensions does not tell: a norm may have one weight per head and channel, a router's bias a first
    dimension of 1, and an adapter of rank 1 is a matrix.
    """
    if "bias" in name or name in RATES or parameter.ndim < 2:
        return False
    if isinstance(module, nn.Linear | nn.Embedding):
        return True
    return not NORM.search(type(module).__name__) and sum(size > 1 for size in parameter.shape) >= 2


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group.get(FACTOR, 1.0)


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> float:
    """Scale all gradients so that their global norm is at most `max_norm` (0: never); the norm before is returned.

    A norm that is not finite is returned and the gradients are left as they are: the caller must not step.
    """
    found = [p for p in parameters if p.grad is not None]
    if not found:
        return 0.0
    total = nn.utils.get_total_norm([p.grad for p in found if p.grad is not None])
    if isinstance(total, DTensor):
        total = total.full_tensor()
    norm = float(total)
    if 0 < max_norm < norm and math.isfinite(norm):
        nn.utils.clip_grads_with_norm_(found, max_norm, total)
    return norm


@torch.no_grad()
def update_norm(optimizer: torch.optim.AdamW) -> float:
    """Norm of the parameter change that the optimizer's last step made, from its state: no copy of the model is kept.

    AdamW (arXiv 1711.05101): p' = (1 - lr * wd) * p - lr * u with u = m_hat / (sqrt(v_hat) + eps), hence
    p' - p = -lr * (wd * p' + u) / (1 - lr * wd). Extra memory: two tensors of the size of the largest local shard.
    """
    every = [(group, p) for group in optimizer.param_groups for p in group["params"]]
    moved = [(group, p, optimizer.state[p]) for group, p in every if optimizer.state.get(p)]
    if not moved:
        return 0.0
    # on a GPU each is a tensor there, and to read them one by one would wait for the GPU every time
    steps = torch.stack([state["step"] for _, _, state in moved]).tolist()
    squares: list[Tensor] = []
    for (group, p, state), step in zip(moved, steps, strict=True):
        beta1, beta2 = group["betas"]
        v_hat = local(state["exp_avg_sq"]) / (1 - beta2**step)
        change = local(state["exp_avg"]) / (1 - beta1**step)
        change.div_(v_hat.sqrt_().add_(group["eps"])).add_(local(p), alpha=group["weight_decay"])
        scale = group["lr"] / (1 - group["lr"] * group["weight_decay"])
        squares.append(torch.linalg.vector_norm(change.mul_(scale), dtype=torch.float64).square())
    total = torch.stack(squares).sum()
    first = optimizer.param_groups[0]["params"][0]
    if isinstance(first, DTensor):
        dist.all_reduce(total, group=first.device_mesh.get_group())
    return float(total.sqrt())


def local(tensor: Tensor) -> Tensor:
    """This rank's shard of a DTensor, or the tensor itself."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
