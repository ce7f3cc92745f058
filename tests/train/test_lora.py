"""Low-rank adapters on two gloo ranks (FSDP2): the gradients of one process, checkpoints that are resumed from, and an
export that is a plain model with the update merged.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ranks import run_on_ranks
from tiny_models import tiny_policy, tiny_store
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM

from redi_ray.config.objectives import DpoObjective, KtoObjective, RediObjective
from redi_ray.config.training import LoraSettings, TrainSettings
from redi_ray.modeling.export import export_policy
from redi_ray.modeling.lora import add_lora
from redi_ray.modeling.policy import Policy
from redi_ray.modeling.tokenizer import character_tokenizer
from redi_ray.train.batches import plan_batches
from redi_ray.train.checkpoint import Checkpointer
from redi_ray.train.distributed import Distributed
from redi_ray.train.loop import Hooks, train
from redi_ray.train.monitors import Monitors, read_metrics
from redi_ray.train.shard import shard_policy
from redi_ray.train.step import forward_backward
from redi_ray.train.stores import LocalStore

pytest.importorskip("peft")

SETTINGS = TrainSettings(learning_rate=1e-2, batch_size=4, epochs=1, tokens_per_pack=64, checkpoint_every=2)
STEPS = 5
STORE = tiny_store(num_pairs=20)


def adapted(world_size: int, dtype: torch.dtype = torch.float64) -> Policy:
    """Adapters as they start, the same in every process without any seed being set outside."""
    policy = tiny_policy(dtype=dtype)
    torch.seed()  # as processes find it
    add_lora(policy.model, LoraSettings(rank=3))
    shard_policy(policy, world_size=world_size, precision="fp32")
    return policy


def whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def trainable(policy: Policy) -> dict[str, nn.Parameter]:
    return {name: p for name, p in policy.named_parameters() if p.requires_grad}


def compare_gradients(rank: int, world_size: int) -> None:
    """At random values of both factors; several packs to a rank, one, and fewer than ranks."""
    policies = adapted(world_size), adapted(1)
    for policy in policies:
        torch.manual_seed(5)
        for p in trainable(policy).values():
            fresh = torch.randn(p.shape, dtype=p.dtype) * 0.3
            if isinstance(p, DTensor):
                fresh = DTensor.from_local(fresh, p.device_mesh).redistribute(placements=p.placements)
            p.data.copy_(fresh)
    for objective in (RediObjective(), DpoObjective(), KtoObjective()):
        for budget in (30, 10_000):
            settings = TrainSettings(batch_size=4, tokens_per_pack=budget)
            for policy, who, ranks in zip(policies, (rank, 0), (world_size, 1), strict=True):
                policy.zero_grad()
                forward_backward(
                    policy,
                    STORE,
                    plan_batches(STORE, settings, ranks, objective)[0],
                    objective,
                    progress=0.0,
                    settings=settings,
                    rank=who,
                    world_size=ranks,
                )
            ours, expected = (torch.cat([whole(p.grad).flatten() for p in trainable(q).values()]) for q in policies)
            assert float((ours - expected).norm() / expected.norm()) < 1e-10, (objective, budget)
            assert not [n for q in policies for n, p in q.named_parameters() if p.grad is not None and "lora_" not in n]


def run(folder: Path, who: Distributed, stop_after: int = 0) -> Policy:
    """Train, from the newest checkpoint in `folder` if there is one, and export."""
    policy = adapted(who.world_size, torch.float32)
    calls = iter(range(1, 1000))
    result = train(
        policy,
        STORE,
        RediObjective(),
        SETTINGS,
        distributed=who,
        checkpoints=Checkpointer(LocalStore(folder / "checkpoints"), {}, distributed=who),
        monitors=Monitors(folder) if who.rank == 0 else None,
        hooks=Hooks(stop_requested=lambda: next(calls) == stop_after),
    )
    assert (result.status, result.steps) == (("preempted", stop_after) if stop_after else ("done", STEPS))
    export_policy(policy, folder / "export", tokenizer=character_tokenizer("0123456789"), rank=who.rank)
    return policy


def on_a_rank(rank: int, world_size: int, folder: str) -> None:
    who = Distributed(rank, world_size, local_rank=rank, local_world_size=world_size)
    compare_gradients(rank, world_size)
    undisturbed = run(Path(folder) / "undisturbed", who)
    run(Path(folder) / "resumed", who, stop_after=3)
    resumed = run(Path(folder) / "resumed", who)
    for (name, one), other in zip(undisturbed.named_parameters(), resumed.parameters(), strict=True):
        assert torch.equal(whole(one), whole(other)), name


def test_two_ranks_train_resume_and_export_as_one_process(tmp_path: Path) -> None:
    run_on_ranks(on_a_rank, 2, str(tmp_path))
    alone = run(tmp_path / "alone", Distributed())
    losses = {
        name: [line["loss"] for line in read_metrics(tmp_path / name / "metrics.jsonl")]
        for name in ("undisturbed", "resumed", "alone")
    }
    assert losses["undisturbed"] == losses["resumed"]
    assert losses["resumed"] == pytest.approx(losses["alone"], rel=1e-4)
    assert losses["alone"][-1] < losses["alone"][0] - 0.05, "the adapters were meant to learn something"

    ids = torch.arange(3, 33)[None]
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "resumed" / "export")
    assert not [name for name, _ in merged.named_parameters() if "lora" in name]
    with torch.no_grad():
        ours, expected = merged(ids).logits, alone.eval().model(ids).logits
        base = tiny_policy(dtype=torch.float32).model(ids).logits
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3)
    assert float((ours - base).abs().max()) > 0.1
