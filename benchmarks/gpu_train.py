"""Training speed and memory on one GPU: a Qwen2.5-1.5B with random weights, SFT and REDI at 4k, 8k and 20k tokens.

A step is the trainer's own: bf16 computation over float32 master weights (FSDP2 on one rank), the fused head, clipping,
AdamW, the update's norm. It takes `--pairs` pairs, or as many sequences as examples under SFT, all of the full length; the
mixed lengths are long-tailed, up to 8k, and 16 times as many. Tokens count prompt and completion. Model FLOPs per token are
6 N + 6 L d S: N parameters, of which the tied embedding counts once, as the head; L layers of width d, length S, causal
attention. Recomputation does not count, so MFU is what reaches the model. Memory is the peak allocated.

Two settings: `least`, in as little memory as may be (every layer recomputed, packs of 8,192 tokens), and `fast` (compiled
layers, nothing recomputed, packs of 16,384 tokens, 1,024 logits at a time, weights gathered once a step).

Parity: log-probs and gradients of a pack of mixed lengths in bf16 (on GPU by flash attention), against float32 by another
attention. The same errors of the model's own bf16 forward pass, a sequence at a time, set the scale: a ratio near 1 says
that packing adds nothing to bf16's rounding.

    python benchmarks/gpu_train.py                        needs a GPU with about 80 GB
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
from gpu_parity import QWEN_1_5B, TINY, Size, make_model, make_store, parity
from transformers import Qwen2ForCausalLM

from redi_ray.config.objectives import Objective, RediObjective, SftObjective
from redi_ray.config.training import TrainSettings
from redi_ray.modeling.policy import Policy, decoder_layers
from redi_ray.train.batches import BatchPlan, plan_batches
from redi_ray.train.optim import clip_gradients, make_optimizer, update_norm
from redi_ray.train.process import peak_memory_gib
from redi_ray.train.shard import shard_policy
from redi_ray.train.step import forward_backward

PEAK_TFLOPS = {"H200": 989, "H100 PCIe": 756, "H100": 989, "A100": 312, "L40S": 362}
"""Dense bf16 peak by a part of the device's name, from the vendor's data sheets; the first match counts."""


@dataclass(frozen=True)
class Way:
    """How the work is done; what is computed is the same."""

    recompute: bool
    """Activations of every layer."""
    compiled: bool
    keep_gathered: bool
    pack_tokens: int
    """A longer sequence has a pack of its own."""
    chunk_tokens: int
    """Scored tokens whose logits are held at a time."""


WAYS = {"fast": Way(False, True, True, 16_384, 1024), "least": Way(True, False, False, 8192, 512)}
MIXED = "mixed"


def lengths_of(size: Size, length: int | str, count: int) -> list[int]:
    """All alike, or log-normal around a median of an eighth of the second of the size's lengths, up to it."""
    if isinstance(length, int):
        return [length] * count
    longest = size.lengths[1]
    drawn = np.exp(np.random.default_rng(0).normal(np.log(longest / 8), 1, count))
    return np.clip(drawn, max(longest / 128, 4), longest).astype(int).tolist()


def flops_per_token(model: Qwen2ForCausalLM, lengths: list[int]) -> float:
    config, seen = model.config, sum(length**2 for length in lengths) / sum(lengths)
    return 6 * model.num_parameters() + 6 * config.num_hidden_layers * config.hidden_size * seen


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def one_step(policy: Policy, optimizer: torch.optim.AdamW, plan: BatchPlan, step: int, objective: Objective) -> float:
    """An optimizer step as the loop makes it; returns the tokens it read."""
    device = next(policy.parameters()).device
    result = forward_backward(
        policy, plan.store, plan[step], objective, progress=0.0, settings=plan.settings, device=device
    )
    clip_gradients(policy.parameters(), plan.settings.max_grad_norm)
    optimizer.step()
    update_norm(optimizer)
    optimizer.zero_grad(set_to_none=True)
    assert result.finite, result
    return result.metrics["total_tokens"]


def measure(
    policy: Policy,
    optimizer: torch.optim.AdamW,
    size: Size,
    way: Way,
    objective: Objective,
    length: int | str,
    options: argparse.Namespace,
) -> dict[str, float | None]:
    """Speed and memory of the steps after the warm-up."""
    device, paired = torch.device(options.device), objective.name == "redi"
    steps, pairs = options.warmup + options.steps, options.pairs * (16 if length == MIXED else 1)
    lengths = lengths_of(size, length, 2 * pairs * steps)
    settings = TrainSettings(
        learning_rate=1e-6,
        batch_size=pairs * (1 if paired else 2),
        tokens_per_pack=way.pack_tokens // size.shrinks,
        head_chunk_tokens=way.chunk_tokens // size.shrinks,
    )
    plan = plan_batches(make_store(size, lengths, paired), settings, 1, objective)
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
        "mfu": round(speed * flops_per_token(policy.model, lengths) / (peak * 1e12), 4) if peak else None,
        "peak_gib": round(peak_memory_gib(device), 2),
    }


def prepare(size: Size, way: Way, device: torch.device) -> tuple[Policy, torch.optim.AdamW]:
    """The policy as a training has it, and its optimizer."""
    policy = Policy(make_model(size, device)).train()
    if way.recompute:
        policy.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        policy.train()
    if way.compiled:
        for layer in decoder_layers(policy):
            layer.compile(dynamic=True)
    shard_policy(policy, world_size=1, precision="bf16", device=device, keep_gathered=way.keep_gathered)
    return policy, make_optimizer(policy, TrainSettings(learning_rate=1e-6))


def norm_ms(optimizer: torch.optim.AdamW, device: torch.device) -> float:
    """Time that the update's norm takes, the fastest of three."""
    times = []
    for _ in range(3):
        synchronize(device)
        started = time.perf_counter()
        update_norm(optimizer)
        times.append(time.perf_counter() - started)
    return round(1e3 * min(times), 1)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Everything that was asked for; prints a line for each measurement."""
    size, device = TINY if options.tiny else QWEN_1_5B, torch.device(options.device)
    result: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "peak_tflops": options.peak_tflops,
        "parity": parity(size, device),
        "runs": [],
    }
    print("parity", result["parity"], flush=True)
    lengths = size.lengths[:1] if options.quick else (*size.lengths, MIXED)
    for name in options.ways:
        gc.collect()  # FSDP's modules refer to themselves, and would be counted in what follows
        policy, optimizer = prepare(size, WAYS[name], device)
        result["parameters"] = policy.model.num_parameters()
        for length in lengths:
            for objective in (SftObjective(), RediObjective()):
                found = measure(policy, optimizer, size, WAYS[name], objective, length, options)
                result["runs"].append({"way": name, "objective": objective.name, "length": length, **found})
                print(result["runs"][-1], flush=True)
        result["update_norm_ms"] = norm_ms(optimizer, device)
        del policy, optimizer
    return result


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the shortest length, fewer steps")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 ... or cpu (with --tiny)")
    parser.add_argument("--tiny", action="store_true", help="a toy model")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS), help="which settings")
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
        torch.cuda.set_device(torch.device(options.device).index or 0)
    else:
        torch.set_num_threads(1)
    try:
        print(json.dumps(run(options)))
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


if __name__ == "__main__":
    main()
