"""A Qwen2.5-1.5B with random weights, and how exact its bf16 packs are: the part of `gpu_train.py` that compares numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.distributed.tensor import DTensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from redi_ray.modeling.attention import NAME
from redi_ray.modeling.policy import Policy
from redi_ray.train.batches import Pack
from redi_ray.train.packs import pack_tensors, run_pack
from redi_ray.train.records import SequenceRecord
from redi_ray.train.sequences import SequenceStore
from redi_ray.train.shard import shard_policy


@dataclass(frozen=True)
class Size:
    """What is trained, and on how many tokens."""

    config: dict[str, int]
    lengths: tuple[int, ...]
    parity_lengths: tuple[int, ...]
    shrinks: int = 1
    """By what packs and chunks are smaller."""


QWEN_1_5B = Size(
    {
        "vocab_size": 151_936,
        "hidden_size": 1536,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "intermediate_size": 8960,
    },
    lengths=(4096, 8192, 20_000),
    parity_lengths=(1500, 700, 699, 40, 2),
)
TINY = Size(
    {
        "vocab_size": 512,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 128,
    },
    lengths=(64, 128),
    parity_lengths=(50, 20, 19, 2),
    shrinks=32,
)


def make_model(size: Size, device: torch.device, attention: str = NAME) -> Qwen2ForCausalLM:
    """Random weights, larger than usual: near-uniform predictions would hide any error."""
    config = Qwen2Config(
        **size.config, max_position_embeddings=max(*size.lengths, 4096), rope_theta=300_000.0, tie_word_embeddings=True
    )
    config._attn_implementation = attention
    torch.manual_seed(0)
    with torch.device(device):
        model = Qwen2ForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(2)
    return model


def make_store(size: Size, lengths: list[int], paired: bool) -> SequenceStore:
    """Random tokens, an eighth of each sequence being its prompt; chosen and rejected in turn, or all positive."""
    rng = np.random.default_rng(0)
    records = []
    for i, length in enumerate(lengths):
        ids = rng.integers(0, size.config["vocab_size"], length).tolist()
        group, side = (i // 2, 1 - 2 * (i % 2)) if paired else (i, 1)
        records.append(SequenceRecord(group, side, ids, max(1, length // 8)))
    return SequenceStore.from_records(records)


def logps_and_gradient(policy: Policy, size: Size, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Of one pack of the parity lengths: `[N]` log-probs, and the gradient of their signed sum with respect to the second
    layer's value projection, which attention's backward pass decides."""
    store = make_store(size, list(size.parity_lengths), paired=False)
    pack = Pack(tuple(range(len(store))), len(store.tokens))
    slots = {i: np.array([i]) for i in range(len(store))}
    tensors = pack_tensors(store, pack, slots, device)
    signs = torch.where(tensors.slots % 2 == 0, -1.0, 0.8) / len(tensors.slots)
    total, logps = run_pack(policy, tensors, signs, 512 // size.shrinks)
    total.backward()
    gradient = policy.model.model.layers[1].self_attn.v_proj.weight.grad
    gradient = gradient.full_tensor() if isinstance(gradient, DTensor) else gradient
    return logps.double(), gradient.double()


def plain(model: Qwen2ForCausalLM, size: Size, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """The same by the model's own forward pass and transformers' SDPA, one sequence at a time, gradients added in bf16."""
    store = make_store(size, list(size.parity_lengths), paired=False)
    scored, found = int(store.scored.sum()), []
    for i in range(len(store)):
        span = store.span(i)
        ids = torch.from_numpy(store.tokens[span].astype(np.int64)).to(device)
        logits = model(input_ids=ids[None], use_cache=False).logits[0, :-1].float()
        logps = logits.log_softmax(-1).gather(1, ids[1:, None])[:, 0]
        logps = logps[torch.from_numpy(store.weights[span][1:]).to(device).bool()]
        ((-1.0 if i % 2 == 0 else 0.8) / scored * logps.sum()).backward()
        found.append(logps.detach())
    gradient = model.model.layers[1].self_attn.v_proj.weight.grad
    assert gradient is not None
    return torch.cat(found).double(), gradient.double()


def parity(size: Size, device: torch.device) -> dict[str, float]:
    """Errors of bf16 against float32: mean over tokens (nats), and relative norm of a gradient."""
    exact_logps, exact_gradient = logps_and_gradient(Policy(make_model(size, device)).train(), size, device)
    mixed = Policy(make_model(size, device)).train()
    shard_policy(mixed, world_size=1, precision="bf16", device=device)
    logps, gradient = logps_and_gradient(mixed, size, device)
    own_logps, own_gradient = plain(make_model(size, device, "sdpa").bfloat16().eval(), size, device)
    logp_errors = [float((x - exact_logps).abs().mean()) for x in (logps, own_logps)]
    gradient_errors = [float((x - exact_gradient).norm() / exact_gradient.norm()) for x in (gradient, own_gradient)]
    return {
        "logp_error": round(logp_errors[0], 5),
        "logp_error_ratio": round(logp_errors[0] / logp_errors[1], 3),
        "gradient_error": round(gradient_errors[0], 5),
        "gradient_error_ratio": round(gradient_errors[0] / gradient_errors[1], 3),
    }
