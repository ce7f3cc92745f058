"""World sizes 1, 2 and 4 under FSDP2 (gloo) give the loss and gradient of one unsharded process, for every objective."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.distributed as dist
from every_objective import SOFT
from formulas import PROGRESS
from ranks import run_on_ranks
from test_step import BOTH, MASKS, OBJECTIVES, SPECS, BothParts, flat_grad, relative, with_weights
from tiny_models import tiny_policy, tiny_store
from torch.distributed.tensor import DTensor

from redi_ray.config.objectives import ForwardKlObjective, KtoObjective, RediObjective, SimpoObjective
from redi_ray.config.training import TrainSettings
from redi_ray.train.batches import plan_batches
from redi_ray.train.shard import shard_policy
from redi_ray.train.step import forward_backward


def full_grad(policy) -> torch.Tensor:
    grads = [p.grad for p in policy.parameters()]
    return torch.cat([(g.full_tensor() if isinstance(g, DTensor) else g).flatten() for g in grads])


EVERY_PATH = (RediObjective(), SimpoObjective(), KtoObjective(), BothParts(), ForwardKlObjective())
"""One objective for each way through a step: known coefficients, a scoring pass, a mismatched baseline before it, a
pointwise part beside it, a teacher's distributions."""


def compare(
    rank: int,
    world_size: int,
    tied: bool,
    weighted: bool,
    all_budgets: bool,
    keep_gathered: bool = False,
    objectives: Sequence[Any] = OBJECTIVES,
    softcap: float | None = None,
) -> None:
    """Every objective with several packs to a rank; with one to a rank, and with fewer than ranks, all or EVERY_PATH.

    All settings of an objective, or those it is listed with first. softcap: of both policies' logits.
    """
    SPECS["both"] = BOTH
    sharded, alone = tiny_policy(tied), tiny_policy(tied)
    sharded.head_softcap = alone.head_softcap = softcap
    shard_policy(sharded, world_size=world_size, precision="fp32", keep_gathered=keep_gathered)
    assert sharded.sharded == (world_size > 1)
    once = {objective.name: objective for objective in reversed(objectives)}
    for objective in objectives if all_budgets else once.values():
        store = with_weights(objective) if weighted else MASKS
        for budget in (1, 60, 10_000) if all_budgets or objective in EVERY_PATH else (60,):
            settings = TrainSettings(batch_size=5, tokens_per_pack=budget, head_chunk_tokens=7)
            results = []
            for policy, who, ranks in ((sharded, rank, world_size), (alone, 0, 1)):
                plan = plan_batches(store, settings, ranks, objective)[0]
                policy.zero_grad()
                results.append(
                    forward_backward(
                        policy, store, plan, objective, progress=PROGRESS, settings=settings, rank=who, world_size=ranks
                    )
                )
            ours, expected = results
            assert abs(ours.loss / expected.loss - 1) < 1e-10, (objective, budget)
            assert relative(full_grad(sharded), flat_grad(alone)) < 1e-10, (objective, budget)
            assert {**ours.metrics, "pack_fill": 0} == pytest.approx({**expected.metrics, "pack_fill": 0})


def test_bfloat16_on_one_rank_keeps_float32_master_weights():
    """Mixed precision needs FSDP2 even on one rank; gradients come back in float32, right to bfloat16's rounding."""
    store, objective = tiny_store(num_pairs=5), RediObjective()
    mixed, exact = tiny_policy(dtype=torch.float32), tiny_policy()
    shard_policy(mixed, world_size=1, precision="bf16")
    try:
        settings = TrainSettings(batch_size=5, tokens_per_pack=60)
        plan = plan_batches(store, settings, 1, objective)[0]
        results = [
            forward_backward(policy, store, plan, objective, progress=0.0, settings=settings)
            for policy in (mixed, exact)
        ]
        assert {p.dtype for p in mixed.parameters()} == {p.grad.dtype for p in mixed.parameters()} == {torch.float32}
        assert abs(results[0].loss - results[1].loss) < 0.05
        assert relative(full_grad(mixed).double(), flat_grad(exact)) < 0.05
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("keep_gathered", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_two_ranks_equal_one_process(keep_gathered):
    run_on_ranks(compare, 2, True, True, False, keep_gathered)


@pytest.mark.parametrize(
    ("world_size", "tied", "softcap"),
    [
        (1, False, None),
        pytest.param(2, True, 3.0, marks=pytest.mark.slow),
        pytest.param(4, False, None, marks=pytest.mark.slow),
    ],
)
def test_a_teachers_distributions_on_ranks(world_size, tied, softcap):
    """All of them, with one pack to a rank, several, and fewer than ranks; with a soft-capped head, too."""
    run_on_ranks(compare, world_size, tied, True, True, False, SOFT, softcap)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("world_size", "tied", "weighted"),
    [(1, True, True), (2, False, False), (4, False, True), pytest.param(4, True, True, marks=pytest.mark.long)],
)
def test_other_world_sizes_and_heads(world_size, tied, weighted):
    run_on_ranks(compare, world_size, tied, weighted, True)
