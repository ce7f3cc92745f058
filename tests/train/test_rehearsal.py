"""What is rehearsed beside what is learnt: its loss is added as it stands, whatever packs and ranks; a resumed run goes on in its
order."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ranks import run_on_ranks
from tiny_models import tiny_policy, tiny_store
from torch.distributed.tensor import DTensor

from redi_ray.config.objectives import RediObjective, SftObjective
from redi_ray.config.rollout_objectives import DphObjective, Rehearsal
from redi_ray.config.training import TrainSettings
from redi_ray.modeling.policy import Policy
from redi_ray.train.checkpoint import Checkpointer
from redi_ray.train.distributed import Distributed
from redi_ray.train.loop import Hooks, train
from redi_ray.train.progress import TrainResult
from redi_ray.train.references import reference_logps
from redi_ray.train.rehearsal import Rehearsed
from redi_ray.train.shard import shard_policy
from redi_ray.train.stores import LocalStore

SETTINGS = TrainSettings(learning_rate=1e-3, batch_size=4, epochs=2, tokens_per_pack=64, checkpoint_every=3)
LEARNT, KNOWN = tiny_store(num_pairs=10), tiny_store(num_pairs=7, seed=5, weighted=True)
REHEARSED = Rehearsed(KNOWN, DphObjective(divergence="js", coefficient=0.7), batch_size=3)
STEPS = 6


def trained(settings: TrainSettings = SETTINGS, **how: object) -> tuple[Policy, TrainResult]:
    policy = tiny_policy()
    return policy, train(policy, LEARNT, RediObjective(alpha=0.3), settings, rehearsed=REHEARSED, **how)  # type: ignore[arg-type]


def test_the_two_losses_are_added_each_with_its_own_normalisation() -> None:
    """`nll` on the very examples that SFT learns from is SFT: the gradient is 1 + coefficient times as long."""
    once, own = replace(SETTINGS, batch_size=99, max_steps=1), DphObjective(divergence="nll", coefficient=0.5)
    alone, both = (
        train(tiny_policy(), LEARNT, SftObjective(), once, rehearsed=again).metrics
        for again in (None, Rehearsed(LEARNT, own, batch_size=99))
    )
    assert both["grad_norm"] == pytest.approx(1.5 * alone["grad_norm"], rel=1e-12)
    assert both["loss"] == pytest.approx(alone["loss"] + both["rehearsal_loss"], rel=1e-12)
    assert both["scored_tokens"] == 2 * alone["scored_tokens"]
    assert "rehearsal_loss" not in alone


def test_at_the_first_model_a_divergence_has_no_slope() -> None:
    """So that the first step is the one without rehearsal, and only the following ones are held back."""
    index, values = reference_logps(
        tiny_policy().eval(), KNOWN, np.arange(len(KNOWN)), tokens_per_pack=64, chunk_tokens=32
    )
    filled = np.zeros(len(KNOWN.tokens))
    filled[index] = values
    exact = Rehearsed(KNOWN.with_column("ref_logps", filled), REHEARSED.objective, 7)
    norms: dict[str, list[float]] = {}
    for name, again in (("alone", None), ("both", exact)):
        lines = norms.setdefault(name, [])
        hooks = Hooks(on_step=lambda step, metrics, lines=lines: lines.append(metrics["grad_norm"]))  # type: ignore[misc]
        train(tiny_policy(), LEARNT, RediObjective(alpha=0.3), SETTINGS, rehearsed=again, hooks=hooks)
    assert norms["both"][0] == pytest.approx(norms["alone"][0], rel=1e-7)  # they are kept in float32
    assert norms["both"][-1] != pytest.approx(norms["alone"][-1], rel=1e-3)


def test_each_is_rehearsed_once_before_any_is_twice() -> None:
    plan = REHEARSED.plan(STEPS, SETTINGS, world_size=1)
    assert len(plan) == STEPS
    of_steps = [plan[step].groups.tolist() for step in range(STEPS)]
    assert [len(groups) for groups in of_steps] == [3, 3, 1, 3, 3, 1]
    for half in (of_steps[:3], of_steps[3:]):
        assert Counter(group for groups in half for group in groups) == Counter(range(7))
    assert of_steps[:3] != of_steps[3:]
    chosen = {int(KNOWN.side[i]) for step in range(STEPS) for i in plan[step].sequences}
    assert chosen == {1}, "of pairs the right side is rehearsed"


@pytest.mark.parametrize("tokens_per_pack", [40, 2048])
def test_packs_change_nothing(tokens_per_pack: int) -> None:
    one, other = trained()[0], trained(replace(SETTINGS, tokens_per_pack=tokens_per_pack))[0]
    for (name, a), (_, b) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11, msg=name)


def _same_on_ranks(rank: int, world_size: int, expected: dict[str, torch.Tensor]) -> None:
    policy = tiny_policy()
    shard_policy(policy, world_size=world_size, precision="fp32")
    who = Distributed(rank=rank, world_size=world_size)
    train(policy, LEARNT, RediObjective(alpha=0.3), SETTINGS, rehearsed=REHEARSED, distributed=who)
    for (name, value), one in zip(expected.items(), policy.parameters(), strict=True):
        whole = one.full_tensor() if isinstance(one, DTensor) else one
        torch.testing.assert_close(whole.detach(), value, rtol=1e-8, atol=1e-10, msg=name)


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_change_nothing(world_size: int) -> None:
    run_on_ranks(_same_on_ranks, world_size, {name: value.detach() for name, value in trained()[0].named_parameters()})


@pytest.mark.parametrize("stop_after", [2, 3])
def test_stopped_and_resumed_equals_undisturbed(tmp_path: Path, stop_after: int) -> None:
    undisturbed, _ = trained()
    steps = iter(range(1, 99))
    kept = Checkpointer(LocalStore(tmp_path), {}, distributed=Distributed(), keep_last=2)
    _, stopped = trained(checkpoints=kept, hooks=Hooks(stop_requested=lambda: next(steps) == stop_after))
    assert (stopped.status, stopped.steps) == ("preempted", stop_after)
    resumed, result = trained(checkpoints=kept)
    assert (result.status, result.steps) == ("done", STEPS)
    for (name, a), (_, b) in zip(undisturbed.named_parameters(), resumed.named_parameters(), strict=True):
        assert torch.equal(a, b), name


def test_what_lacks_the_first_models_log_probs_is_refused() -> None:
    bare = Rehearsed(tiny_store(num_pairs=3, reference=False), DphObjective(), 2)
    with pytest.raises(ValueError, match="dph needs reference log-probs"):
        train(tiny_policy(), LEARNT, RediObjective(), SETTINGS, rehearsed=bare)
    with pytest.raises(ValueError, match="batch_size must be >= 1"):
        Rehearsal(batch_size=0)
