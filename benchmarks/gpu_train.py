"""Training speed and memory on one GPU: a Qwen2.5-1.5B with random weights, SFT and REDI at 4k, 8k and 20k tokens.

A step is the trainer's own: bf16 computation over float32 master weights (FSDP2 on one rank), gradient checkpointing,
the fused head, clipping, AdamW. Every sequence has the full length and a pack of its own; a step takes `--pairs` pairs, or
as many sequences as examples under SFT. Tokens count prompt and completion. Model FLOPs per token are 6 N + 6 L d S: N
parameters, of which the tied embedding counts once, as the head; L layers of width d, length S, causal attention.
Recomputation does not count, so MFU is what reaches the model. Memory is the peak allocated.

Parity: log-probs and gradients of a pack of mixed lengths in bf16 (on GPU by variable-length flash attention), against
float32 by another attention. The same errors of the model's own bf16 forward pass, a sequence at a time, set the scale:
a ratio near 1 says that packing adds nothing to bf16's rounding.

    python benchmarks/gpu_train.py                        needs a GPU with about 50 GB
    python benchmarks/gpu_train.py --quick                4k tokens and parity only, fewer steps
    python benchmarks/gpu_train.py --device cpu --tiny    runs the same code at toy size; its figures mean nothing

Last line: a JSON object.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from redi_ray.config.objectives import Objective, RediObjective, SftObjective
from redi_ray.config.training import TrainSettings
from redi_ray.modeling.attention import NAME
from redi_ray.modeling.policy import Policy
from redi_ray.train.batches import BatchPlan, Pack, plan_batches
from redi_ray.train.optim import clip_gradients, make_optimizer
from redi_ray.train.packs import pack_tensors, run_pack
from redi_ray.train.process import peak_memory_gib
from redi_ray.train.records import SequenceRecord
from redi_ray.train.sequences import SequenceStore
from redi_ray.train.shard import shard_policy
from redi_ray.train.step import forward_backward

PEAK_TFLOPS = {"H200": 989, "H100 PCIe": 756, "H100": 989, "A100": 312, "L40S": 362}
"""Dense bf16 peak by a part of the device's name, from the vendor's data sheets; the first match counts."""


@dataclass(frozen=True)
class Size:
    """What is trained, and on how many tokens."""

    config: dict[str, int]
    lengths: tuple[int, ...]
    parity_lengths: tuple[int, ...]
    chunk_tokens: int = 512


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
    chunk_tokens=32,
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


def flops_per_token(model: Qwen2ForCausalLM, length: int) -> float:
    config = model.config
    return 6 * model.num_parameters() + 6 * config.num_hidden_layers * config.hidden_size * length


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def one_step(
    policy: Policy, optimizer: torch.optim.Optimizer, plan: BatchPlan, step: int, objective: Objective
) -> float:
    """An optimizer step as the loop makes it; returns the tokens it read."""
    device = next(policy.parameters()).device
    result = forward_backward(
        policy, plan.store, plan[step], objective, progress=0.0, settings=plan.settings, device=device
    )
    clip_gradients(policy.parameters(), plan.settings.max_grad_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    assert result.finite, result
    return result.metrics["total_tokens"]


def measure(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    size: Size,
    objective: Objective,
    length: int,
    options: argparse.Namespace,
) -> dict[str, float | None]:
    """Speed and memory of the steps after the warm-up."""
    device, paired = torch.device(options.device), objective.name == "redi"
    steps = options.warmup + options.steps
    store = make_store(size, [length] * (2 * options.pairs * steps), paired)
    groups = options.pairs * (1 if paired else 2)
    settings = TrainSettings(
        learning_rate=1e-6, batch_size=groups, tokens_per_pack=length, head_chunk_tokens=size.chunk_tokens
    )
    plan = plan_batches(store, settings, 1, objective)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    try:
        for step in range(options.warmup):
            one_step(policy, optimizer, plan, step, objective)
        synchronize(device)
        started = time.perf_counter()
        tokens = sum(one_step(policy, optimizer, plan, step, objective) for step in range(options.warmup, steps))
        synchronize(device)
    except torch.cuda.OutOfMemoryError:
        optimizer.zero_grad(set_to_none=True)
        return {"tokens_per_s": None, "mfu": None, "peak_gib": None}
    speed = tokens / (time.perf_counter() - started)
    peak = options.peak_tflops
    return {
        "tokens_per_s": round(speed, 1),
        "mfu": round(speed * flops_per_token(policy.model, length) / (peak * 1e12), 4) if peak else None,
        "peak_gib": round(peak_memory_gib(device), 2),
    }


def logps_and_gradient(policy: Policy, size: Size, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Of one pack of the parity lengths: `[N]` log-probs, and the gradient of their signed sum with respect to the second
    layer's value projection, which attention's backward pass decides."""
    store = make_store(size, list(size.parity_lengths), paired=False)
    pack = Pack(tuple(range(len(store))), len(store.tokens))
    slots = {i: np.array([i]) for i in range(len(store))}
    tensors = pack_tensors(store, pack, slots, device)
    signs = torch.where(tensors.slots % 2 == 0, -1.0, 0.8) / len(tensors.slots)
    total, logps = run_pack(policy, tensors, signs, size.chunk_tokens)
    total.backward()
    gradient = policy.model.model.layers[1].self_attn.v_proj.weight.grad
    gradient = gradient.full_tensor() if isinstance(gradient, DTensor) else gradient
    return logps.double(), gradient.double()


def plain_logps(model: Qwen2ForCausalLM, size: Size, device: torch.device) -> torch.Tensor:
    """`[N]` of the same sequences by the model's own forward pass and transformers' SDPA, one at a time."""
    store = make_store(size, list(size.parity_lengths), paired=False)
    found = []
    for i in range(len(store)):
        span = store.span(i)
        ids = torch.from_numpy(store.tokens[span].astype(np.int64)).to(device)
        with torch.no_grad():
            logits = model(input_ids=ids[None], use_cache=False).logits[0, :-1].float()
        logps = logits.log_softmax(-1).gather(1, ids[1:, None])[:, 0]
        found.append(logps[torch.from_numpy(store.weights[span][1:]).to(device).bool()])
    return torch.cat(found).double()


def parity(size: Size, device: torch.device) -> dict[str, float]:
    """Errors of bf16 against float32: mean over tokens (nats), and relative norm of a gradient."""
    exact_logps, exact_gradient = logps_and_gradient(Policy(make_model(size, device)).train(), size, device)
    mixed = Policy(make_model(size, device)).train()
    shard_policy(mixed, world_size=1, precision="bf16", device=device)
    logps, gradient = logps_and_gradient(mixed, size, device)
    plain = plain_logps(make_model(size, device, "sdpa").bfloat16().eval(), size, device)
    ours, theirs = (float((x - exact_logps).abs().mean()) for x in (logps, plain))
    return {
        "logp_error": round(ours, 5),
        "plain_logp_error": round(theirs, 5),
        "logp_error_ratio": round(ours / theirs, 3),
        "gradient_error": round(float((gradient - exact_gradient).norm() / exact_gradient.norm()), 5),
    }


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Everything that was asked for; prints a line for each measurement."""
    size, device = TINY if options.tiny else QWEN_1_5B, torch.device(options.device)
    result: dict[str, Any] = {
        "device": device_name(device),
        "torch": torch.__version__,
        "peak_tflops": options.peak_tflops,
    }
    result["parity"] = parity(size, device)
    print("parity", result["parity"], flush=True)
    gc.collect()  # FSDP's modules refer to themselves, and would be counted in what follows
    policy = Policy(make_model(size, device)).train()
    result["parameters"] = policy.model.num_parameters()
    policy.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    shard_policy(policy, world_size=1, precision="bf16", device=device)
    optimizer = make_optimizer(policy, TrainSettings(learning_rate=1e-6))
    result["runs"] = []
    for length in size.lengths[:1] if options.quick else size.lengths:
        for objective in (SftObjective(), RediObjective()):
            found = measure(policy, optimizer, size, objective, length, options)
            result["runs"].append({"objective": objective.name, "length": length, **found})
            print(result["runs"][-1], flush=True)
    return result


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the shortest length, fewer steps")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 ... or cpu (with --tiny)")
    parser.add_argument("--tiny", action="store_true", help="a toy model")
    parser.add_argument("--pairs", type=int, default=4, help="per step")
    parser.add_argument("--steps", type=int, default=None, help="that are timed")
    parser.add_argument("--warmup", type=int, default=2, help="steps before")
    parser.add_argument("--peak-tflops", type=float, default=None, help="the device's dense bf16 peak, for MFU")
    options = parser.parse_args(arguments)
    options.steps = options.steps or (3 if options.quick else 8)
    if options.device.startswith("cuda"):
        if not torch.cuda.is_available():
            sys.exit(
                "gpu_train.py: no CUDA GPU is visible to torch here, so there is nothing to measure. "
                "`--device cpu --tiny` runs its code at toy size."
            )
        name = torch.cuda.get_device_name(options.device)
        known = next((peak for part, peak in PEAK_TFLOPS.items() if part in name), None)
        options.peak_tflops = options.peak_tflops or known
    elif not options.tiny:
        parser.error("a Qwen2.5-1.5B on the CPU takes hours: add --tiny")
    return options


def main() -> None:
    options = parse()
    if options.device.startswith("cuda"):
        torch.cuda.set_device(options.device)
    else:
        torch.set_num_threads(1)
    try:
        print(json.dumps(run(options)))
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


if __name__ == "__main__":
    main()
