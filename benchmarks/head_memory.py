"""Memory and time of the language-model head's loss, forward and backward: fused and chunked, against plain autograd.

Both arms compute the same weighted sum of log-probs of `tokens` rows at the head size of Qwen2.5-1.5B in float32 and its
gradients with respect to hidden states and weight. The weight's `.grad` exists beforehand in both, as it does while
gradients accumulate over packs: it is the same 0.93 GB in either, and counting it would only blur what differs.

    python benchmarks/head_memory.py            4096 tokens
    python benchmarks/head_memory.py --quick    1024 tokens, the chunk scaled alike

Last line: {"memory_ratio": plain / ours, "time_ratio": ours / plain, ...}
"""

from __future__ import annotations

import argparse
import json

import torch
from arms import measured, run_arm

from redi_ray.modeling.logps import HeadShape, weighted_logps

HIDDEN, VOCABULARY = 1536, 151_936


def plain(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    return -(c * torch.nn.functional.cross_entropy(hidden @ weight.T, targets, reduction="none")).sum()


def run(arm: str, tokens: int, chunk: int, repeats: int) -> dict[str, float]:
    generator = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(VOCABULARY, HIDDEN, generator=generator) * 0.02)
    hidden = torch.randn(tokens, HIDDEN, generator=generator, requires_grad=True)
    targets = torch.randint(0, VOCABULARY, (tokens,), generator=generator)
    coefficients = torch.where(torch.arange(tokens) % 2 == 0, -1.0, 0.8) / tokens

    def step(rows: int) -> float:
        part = hidden[:rows]
        if arm == "plain":
            loss = plain(part, weight, targets[:rows], coefficients[:rows])
        else:
            loss, _ = weighted_logps(
                part, weight, targets[:rows], coefficients[:rows], HeadShape(chunk), grad_weight=weight.grad
            )
        loss.backward()
        return float(loss.detach())

    weight.grad = torch.zeros_like(weight)
    step(chunk)  # warms up threads and the math library's own workspace, which stays
    usages = []
    for _ in range(repeats):
        weight.grad.zero_()
        hidden.grad = None
        with measured() as usage:
            loss = step(tokens)
        usages.append(usage)
    assert hidden.grad is not None
    return {
        "seconds": min(u.seconds for u in usages),
        "added_gb": max(u.added_bytes for u in usages) / 1e9,
        "loss": loss,
        "hidden_grad_norm": float(hidden.grad.double().norm()),
        "weight_grad_norm": float(weight.grad.double().norm()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--arm", choices=["plain", "ours"])
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    tokens, chunk, repeats = (1024, 128, 1) if options.quick else (4096, 512, 2)
    if options.arm:
        print(json.dumps(run(options.arm, tokens, chunk, repeats)))
        return
    forwarded = ["--quick"] if options.quick else []
    results = {arm: run_arm(__file__, arm, forwarded, options.threads) for arm in ("plain", "ours")}
    for arm, result in results.items():
        print(f"{arm:6} {result['seconds']:7.1f} s   +{result['added_gb']:.3f} GB   loss {result['loss']:.7f}")
    ours, theirs = results["ours"], results["plain"]
    difference = max(abs(ours[k] / theirs[k] - 1) for k in ("hidden_grad_norm", "weight_grad_norm"))
    summary = {
        "memory_ratio": round(theirs["added_gb"] / ours["added_gb"], 2),
        "time_ratio": round(ours["seconds"] / theirs["seconds"], 3),
        "tokens": tokens,
        "chunk_tokens": chunk,
        "gradient_norms_differ": difference,
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
