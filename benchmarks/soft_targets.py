"""Memory and time of the loss on a teacher's distributions, forward and backward, beside our SFT step, TRL's GKD and full logits.

All arms are at the head size of Qwen2.5-1.5B. `ours` has the teacher's 64 likeliest tokens and the rest, as they lie on disk,
read into memory beforehand; SFT and the three divergences take turns in one process. `plain` is the same forward KL by autograd
over full logits. `trl` is `GKDTrainer.generalized_jsd_loss`, which wants the teacher's full logits: they are there beforehand,
and count in nothing. The head weight's gradient buffer exists beforehand in all.

    python benchmarks/soft_targets.py                4,096 tokens, float32, on CPU
    python benchmarks/soft_targets.py --quick        256 tokens, the chunk scaled alike
    python benchmarks/soft_targets.py --device cuda  8,192 tokens, bfloat16, ours alone

Where memory does not hold the peers at so many tokens they have fewer, and their memory and time are scaled to as many: both are
linear in tokens. TRL is no dependency of the project: `pip install --no-deps trl==1.16.0 accelerate`. Last line: a JSON object,
with `memory_ratio` (the thriftier peer / ours), `over_sft` (ours / SFT - 1, in time; `over_sft_cpu` in processor time, which is
what a machine that others use leaves to compare) and `bytes_per_token` on disk.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
import torch
from arms import measured, run_arm
from torch import Tensor

from redi_ray.modeling.logps import HeadShape, weighted_logps
from redi_ray.modeling.soft_columns import SoftFormat, pack, unpack
from redi_ray.modeling.soft_targets import SoftTargets
from redi_ray.objectives.divergences import Divergence

HIDDEN, VOCABULARY, TOP_K = 1536, 151_936, 64
FORM = SoftFormat(TOP_K, VOCABULARY)
DIVERGENCES = {"forward_kl": Divergence(), "reverse_kl": Divergence("reverse_kl"), "js": Divergence("js")}
PEER_COPIES = 11
"""Of the logits in float32, about, that the greediest peer holds at a time."""


def taught(tokens: int, generator: torch.Generator) -> np.ndarray:
    """Records of a made-up teacher."""
    share = VOCABULARY // TOP_K  # each of the k from a part of the vocabulary of its own, so that all differ
    ids = np.random.default_rng(0).integers(0, share, (tokens, TOP_K)) + share * np.arange(TOP_K)
    logits = torch.randn(tokens, TOP_K + 1, generator=generator) * 3
    return pack(ids, logits.log_softmax(1).numpy(), FORM)


class Head:
    """A head, hidden states and targets, the weight's gradient being there."""

    def __init__(self, tokens: int, device: str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(VOCABULARY, HIDDEN, generator=generator) * 0.02
        self.weight = torch.nn.Parameter(weight.to(device, dtype))
        self.weight.grad = torch.zeros_like(self.weight)
        self.hidden = torch.randn(tokens, HIDDEN, generator=generator).to(device, dtype).requires_grad_()
        self.targets = torch.randint(0, VOCABULARY, (tokens,), generator=generator).to(device)
        ids, logps = unpack(taught(tokens, generator))
        self.ids, self.logps = torch.from_numpy(ids.astype(np.int32)).to(device), torch.from_numpy(logps).to(device)
        self.weights = torch.full((tokens,), 1 / tokens, dtype=torch.float64, device=device)

    def clear(self) -> None:
        assert self.weight.grad is not None
        self.weight.grad.zero_()
        self.hidden.grad = None

    def ours(self, rows: int, chunk: int, how: Divergence | None) -> float:
        """A step of a divergence, or without one of SFT; its loss."""
        soft = None if how is None else SoftTargets(self.ids[:rows], self.logps[:rows], self.weights[:rows], how)
        coefficients = torch.zeros_like(self.weights[:rows]) if soft else -self.weights[:rows]
        total, _ = weighted_logps(
            self.hidden[:rows], self.weight, self.targets[:rows], coefficients, HeadShape(chunk),
            grad_weight=self.weight.grad, soft=soft,
        )  # fmt: skip
        total.backward()
        return float(total.detach()) if soft is None else float((soft.values * self.weights[:rows]).sum())


def plain(head: Head, rows: int) -> Tensor:
    """The forward KL over full logits."""
    logps = (head.hidden[:rows] @ head.weight.T).log_softmax(1)
    ids, theirs = head.ids[:rows].long(), head.logps[:rows].log_softmax(1)
    inside = logps.gather(1, ids)
    rest = logps.scatter(1, ids, -torch.inf).logsumexp(1, keepdim=True)
    ours = torch.cat([inside, rest], 1)
    return (theirs.exp() * (theirs - ours)).sum(1).mean()


def trl(head: Head, rows: int, teacher: Tensor, beta: float) -> Tensor:
    from trl.experimental.gkd import GKDTrainer

    student = head.hidden[:rows] @ head.weight.T
    return GKDTrainer.generalized_jsd_loss(student[None], teacher[None, :rows], head.targets[None, :rows], beta=beta)


def run_ours(tokens: int, chunk: int, repeats: int) -> dict[str, dict[str, float]]:
    head = Head(tokens)
    arms: dict[str, Divergence | None] = {"sft": None, **DIVERGENCES}
    found = {name: {"seconds": np.inf, "cpu_seconds": np.inf, "added_gb": 0.0} for name in arms}
    for how in arms.values():
        head.ours(chunk, chunk, how)  # warms up threads and the math library's own workspace, which stays
    for _ in range(repeats):
        for name, how in arms.items():
            head.clear()
            with measured() as usage:
                loss = head.ours(tokens, chunk, how)
            best = found[name]
            best["seconds"] = min(best["seconds"], usage.seconds)
            best["cpu_seconds"] = min(best["cpu_seconds"], usage.cpu_seconds)
            best["added_gb"] = max(best["added_gb"], usage.added_bytes / 1e9)
            best["loss"] = loss
    return found


def run_peer(arm: str, tokens: int) -> dict[str, float]:
    head, step = Head(tokens), None
    if arm == "plain":
        step = lambda rows: plain(head, rows)  # noqa: E731
    else:
        teacher = torch.randn(tokens, VOCABULARY) * 2
        step = lambda rows: trl(head, rows, teacher, 0.0 if arm == "trl_forward_kl" else 0.5)  # noqa: E731
    step(16).backward()
    head.clear()
    with measured() as usage:
        loss = step(tokens)
        loss.backward()
    return {"seconds": usage.seconds, "added_gb": usage.added_bytes / 1e9, "loss": float(loss.detach())}


def peer_tokens(tokens: int) -> int:
    """As many as memory holds of them, in halves."""
    with open("/proc/meminfo") as file:
        there = next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    while tokens > 64 and PEER_COPIES * tokens * VOCABULARY * 4 + 4e9 > there:
        tokens //= 2
    return tokens


def run_cuda(tokens: int, chunk: int, repeats: int) -> dict[str, float]:
    """Ours on a GPU: milliseconds and added memory of each."""
    head, found = Head(tokens, "cuda", torch.bfloat16), {}

    def timed(step: Callable[[], float]) -> tuple[float, float]:
        for _ in range(3):
            step()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before, start = torch.cuda.memory_allocated(), time.perf_counter()
        for _ in range(repeats):
            step()
        torch.cuda.synchronize()
        added = torch.cuda.max_memory_allocated() - before
        return (time.perf_counter() - start) / repeats * 1e3, added / 1e9

    for name, how in {"sft": None, **DIVERGENCES}.items():
        head.clear()
        found[f"{name}_ms"], found[f"{name}_gb"] = timed(lambda how=how: head.ours(tokens, chunk, how))
    found |= {f"{name}_over_sft": found[f"{name}_ms"] / found["sft_ms"] - 1 for name in DIVERGENCES}
    return {name: round(value, 3) for name, value in found.items()} | {"tokens": tokens, "chunk_tokens": chunk}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--chunk", type=int, help="tokens whose logits are held at a time")
    parser.add_argument("--arm", choices=["ours", "plain", "trl_forward_kl", "trl_js"])
    parser.add_argument("--peer-tokens", type=int, help="tokens of the peers (default: as many as memory holds)")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    tokens, chunk, repeats = (256, 64, 1) if options.quick else (4096, 512, 2)
    if options.device == "cuda":
        print(json.dumps(run_cuda(8192, options.chunk or 1024, 20)))
        return
    chunk, few = options.chunk or chunk, options.peer_tokens or peer_tokens(tokens)
    if options.arm:
        print(json.dumps(run_ours(tokens, chunk, repeats) if options.arm == "ours" else run_peer(options.arm, few)))
        return
    forwarded = [f"--peer-tokens={few}", *(["--quick"] if options.quick else [])]
    forwarded += [f"--chunk={chunk}"] if options.chunk else []
    ours = run_arm(__file__, "ours", forwarded, options.threads)
    peers = {}
    for arm in ("plain", "trl_forward_kl", "trl_js"):
        told = run_arm(__file__, arm, forwarded, options.threads)
        peers[arm] = {name: told[name] * tokens / few for name in ("seconds", "added_gb")}
    for name, result in {**ours, **peers}.items():
        print(f"{name:15} {result['seconds']:7.2f} s   +{result['added_gb']:.3f} GB")
    largest = max(ours[name]["added_gb"] for name in DIVERGENCES)
    summary = {
        "memory_ratio": round(min(peer["added_gb"] for peer in peers.values()) / largest, 2),
        "memory_ratio_trl": round(min(peers[arm]["added_gb"] for arm in ("trl_forward_kl", "trl_js")) / largest, 2),
        "over_sft": {name: round(ours[name]["seconds"] / ours["sft"]["seconds"] - 1, 3) for name in DIVERGENCES},
        "over_sft_cpu": {
            name: round(ours[name]["cpu_seconds"] / ours["sft"]["cpu_seconds"] - 1, 3) for name in DIVERGENCES
        },
        "time_ratio_plain": round(ours["forward_kl"]["seconds"] / peers["plain"]["seconds"], 3),
        "time_ratio_trl": round(ours["forward_kl"]["seconds"] / peers["trl_forward_kl"]["seconds"], 3),
        "bytes_per_token": FORM.bytes_per_token,
        "tokens": tokens,
        "peer_tokens": few,
        "chunk_tokens": chunk,
        "top_k": TOP_K,
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
