"""Objectives on values: loss and gradient are those of the formula, computed the slow way, over every freedom the trainer has."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from ranks import run_on_ranks
from test_step import flat_grad, relative, run
from test_step_distributed import full_grad
from tiny_models import tiny_policy, tiny_store
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid
from transformers import LlamaForSequenceClassification, Qwen2ForSequenceClassification

from redi_ray.config.reward_objectives import (
    BradleyTerryObjective,
    OrealRmObjective,
    OutcomeBceObjective,
    StepBceObjective,
    StepMseObjective,
)
from redi_ray.config.training import LoraSettings, TrainSettings
from redi_ray.modeling.lora import add_lora
from redi_ray.modeling.rewards import RewardPolicy, check_hidden
from redi_ray.objectives import OBJECTIVES
from redi_ray.train.batches import plan_batches
from redi_ray.train.checkpoint import Checkpointer
from redi_ray.train.distributed import Distributed
from redi_ray.train.loop import Hooks, train
from redi_ray.train.monitors import Monitors, read_metrics
from redi_ray.train.optim import make_optimizer, set_learning_rate
from redi_ray.train.shard import shard_policy
from redi_ray.train.step import forward_backward
from redi_ray.train.stores import LocalStore

VALUED = [
    BradleyTerryObjective(),
    BradleyTerryObjective(margin=0.3, centre=0.05),
    OutcomeBceObjective(),
    OrealRmObjective(),
    StepBceObjective(),
    StepBceObjective(normalization="sequence_mean"),
    StepMseObjective(),
]


def reward_policy(tied=True, dtype=torch.float64, seed=0):
    """The decoder of `tiny_policy` under a classification class, its head not zero."""
    decoder = tiny_policy(tied, dtype, seed).model
    config = decoder.config
    config.num_labels = 1
    model = (Qwen2ForSequenceClassification if tied else LlamaForSequenceClassification)(config).to(dtype)
    model.model = decoder.model
    with torch.no_grad():
        model.score.weight.copy_(torch.randn(1, config.hidden_size, generator=torch.Generator().manual_seed(4)) / 3)
    return RewardPolicy(model).train()


def last_only(store):
    """The store with weight on the last scored token of each unit alone, as the data stage makes it; rewards in [0, 1]."""
    weights = np.zeros(len(store.weights), np.uint8)
    for i in range(len(store)):
        span = store.span(i)
        scored = np.flatnonzero(store.weights[span])
        unit = np.zeros(len(scored), int) if store.unit is None else store.unit[span][scored]
        weights[span.start + scored[[np.flatnonzero(unit == u)[-1] for u in np.unique(unit)]]] = 1
    return replace(store, weights=weights, reward=np.clip(store.reward, 0, 1), mismatched=None)


def store_for(objective):
    spec = OBJECTIVES[objective.name]
    store = tiny_store(units=spec.several_units, reference=False)
    return last_only(store) if spec.at_last else store


def formula(policy, store, groups, o):
    """One sequence after the other, by the class's own backbone and plain autograd."""
    values, targets, sides, sequence = [], [], [], []
    for group in groups:
        for i in sorted(store.sequences_of_group(group), key=lambda i: -store.side[i]):
            span = store.span(i)
            ids = torch.tensor(store.tokens[span]).long()
            hidden = policy.model.model(input_ids=ids[None], use_cache=False).last_hidden_state[0]
            v = (hidden @ policy.model.score.weight.T)[:, 0]
            scored = np.flatnonzero(store.weights[span])
            unit = np.zeros(len(scored), int) if store.unit is None else store.unit[span][scored]
            for number, reward in enumerate(store.reward[store.units(i)]):
                values.append(v[scored[unit == number]].mean())
                targets.append(float(reward))
                sides.append(float(store.side[i] > 0))
                sequence.append(i)
    v, y, side = torch.stack(values), torch.tensor(targets).double(), torch.tensor(sides).double()
    if o.name == "bradley_terry":
        chosen, rejected = v[0::2], v[1::2]
        return (-logsigmoid(chosen - rejected - o.margin) + o.centre * (chosen + rejected) ** 2).mean()
    if o.name in ("outcome_bce", "oreal_rm"):
        return binary_cross_entropy_with_logits(v, side)
    terms = (v - y) ** 2 if o.name == "step_mse" else binary_cross_entropy_with_logits(v, y, reduction="none")
    if o.normalization == "unit_mean":
        return terms.mean()
    return torch.stack([terms[[s == i for s in sequence]].mean() for i in set(sequence)]).mean()


@pytest.mark.parametrize("tied", [True, False], ids=["qwen2", "llama"])
@pytest.mark.parametrize("objective", VALUED, ids=lambda o: o.name)
def test_equals_plain_autograd_for_any_packing_and_chunk(objective, tied):
    policy, store = reward_policy(tied), store_for(objective)
    groups = run(policy, store, objective)[2].groups
    policy.zero_grad()
    expected = formula(policy, store, groups, objective)
    expected.backward()
    gradient = flat_grad(policy)
    for budget, chunk in ((1, 64), (60, 5), (10_000, 512)):
        result, ours, _ = run(policy, store, objective, tokens_per_pack=budget, head_chunk_tokens=chunk)
        assert result.finite
        assert result.loss == pytest.approx(expected.item(), rel=1e-10)
        assert relative(ours, gradient) < 1e-10


def test_values_of_zero_have_the_losses_of_a_coin():
    """Where a head starts: log 2 for every cross-entropy, and only the head has a gradient."""
    for objective in (*VALUED[:1], *VALUED[2:5]):
        policy = reward_policy()
        policy.model.score.weight.data.zero_()
        result = run(policy, store_for(objective), objective)[0]
        assert result.loss == pytest.approx(math.log(2), rel=1e-12)
        assert float(policy.model.score.weight.grad.norm()) > 0
        assert all(float(p.grad.abs().max()) == 0 for p in policy.model.model.parameters())


def test_metrics_speak_of_values():
    result = run(reward_policy(), store_for(VALUED[0]), VALUED[0])[0]
    assert {"chosen_value", "rejected_value", "margin", "pair_accuracy"} <= result.metrics.keys()
    assert "chosen_logp" not in result.metrics


def test_adapters_leave_the_head_to_be_trained():
    pytest.importorskip("peft")
    policy = reward_policy()
    add_lora(policy.model, LoraSettings(rank=2), train_head=True)
    trained = {name for name, p in policy.named_parameters() if p.requires_grad}
    assert "model.score.weight" in trained
    assert all("lora_" in name or name == "model.score.weight" for name in trained)
    run_gradient = forward_backward(
        policy, store_for(VALUED[0]), plan_batches(store_for(VALUED[0]), TrainSettings(batch_size=4), 1, VALUED[0])[0],
        VALUED[0], progress=0.0, settings=TrainSettings(batch_size=4),
    )  # fmt: skip
    assert run_gradient.finite
    assert float(policy.model.score.weight.grad.norm()) > 0


def test_hidden_states_that_leak_over_packs_are_noticed():
    policy = reward_policy(dtype=torch.float32)
    check_hidden(policy)
    policy.hidden_states = lambda ids, positions, layout: policy.decoder(
        input_ids=ids[None], use_cache=False
    ).last_hidden_state[0]
    with pytest.raises(ValueError, match="hidden states over packs differ"):
        check_hidden(policy)


def compare(rank: int, world_size: int, objectives: list) -> None:
    """Several packs to a rank, and fewer than ranks."""
    sharded, alone = reward_policy(), reward_policy()
    shard_policy(sharded, world_size=world_size, precision="fp32")
    for objective in objectives:
        store = store_for(objective)
        for budget in (60, 10_000):
            settings, results = TrainSettings(batch_size=5, tokens_per_pack=budget), []
            for policy, who, ranks in ((sharded, rank, world_size), (alone, 0, 1)):
                plan = plan_batches(store, settings, ranks, objective)[0]
                policy.zero_grad()
                results.append(
                    forward_backward(
                        policy, store, plan, objective, progress=0.0, settings=settings, rank=who, world_size=ranks
                    )
                )
            assert abs(results[0].loss / results[1].loss - 1) < 1e-10, (objective, budget)
            assert relative(full_grad(sharded), flat_grad(alone)) < 1e-10, (objective, budget)


def test_two_ranks_equal_one_process():
    run_on_ranks(compare, 2, [BradleyTerryObjective(), StepBceObjective()])


@pytest.mark.slow
def test_four_ranks_equal_one_process():
    run_on_ranks(compare, 4, VALUED)


def test_in_bfloat16_the_head_stays_float32():
    mixed, exact = reward_policy(dtype=torch.float32), reward_policy()
    objective, seen = OutcomeBceObjective(), []
    mixed.model.score.register_forward_hook(lambda head, args, out: seen.append((head.weight.dtype, out.dtype)))
    shard_policy(mixed, world_size=1, precision="bf16")
    store, settings = store_for(objective), TrainSettings(batch_size=4)
    plan = plan_batches(store, settings, 1, objective)[0]
    try:
        ours, expected = (
            forward_backward(policy, store, plan, objective, progress=0.0, settings=settings)
            for policy in (mixed, exact)
        )
        assert set(seen) == {(torch.float32, torch.float32)}
        assert abs(ours.loss / expected.loss - 1) < 0.05
        assert relative(full_grad(mixed).double(), flat_grad(exact)) < 0.05
    finally:
        dist.destroy_process_group()


def trained(folder: Path, stop_after: int = 0) -> tuple[RewardPolicy, list[dict]]:
    """Five steps, the head at three times the rate; from the newest checkpoint if there is one."""
    objective = StepBceObjective(head_learning_rate=3.0)
    settings = TrainSettings(learning_rate=1e-2, batch_size=2, max_steps=5, epochs=5, checkpoint_every=2)
    policy, calls = reward_policy(dtype=torch.float32), iter(range(1, 100))
    policy.head_rate = objective.head_learning_rate
    result = train(
        policy,
        store_for(objective),
        objective,
        settings,
        checkpoints=Checkpointer(LocalStore(folder / "checkpoints"), {}, distributed=Distributed()),
        monitors=Monitors(folder),
        hooks=Hooks(stop_requested=lambda: next(calls) == stop_after),
    )
    assert result.steps == (stop_after or 5)
    return policy, read_metrics(folder / "metrics.jsonl")


def test_a_training_that_was_stopped_ends_with_the_same_weights(tmp_path: Path) -> None:
    """The head's own rate with it; and the loss falls."""
    whole, steps = trained(tmp_path / "whole")
    trained(tmp_path / "torn", stop_after=3)
    torn, again = trained(tmp_path / "torn")
    for (name, one), other in zip(whole.named_parameters(), torn.parameters(), strict=True):
        assert one.equal(other), name
    assert [step["loss"] for step in steps] == [step["loss"] for step in again]
    assert steps[-1]["loss"] < steps[0]["loss"] - 0.05


def test_the_head_alone_has_a_rate_of_its_own() -> None:
    policy = reward_policy()
    assert len(make_optimizer(policy, TrainSettings()).param_groups) == 2
    policy.head_rate = 3.0
    optimizer = make_optimizer(policy, TrainSettings())
    set_learning_rate(optimizer, 0.5)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert {name: rates[id(p)] for name, p in policy.named_parameters() if rates[id(p)] != 0.5} == {
        "model.score.weight": 1.5
    }
    assert len(rates) == len(list(policy.parameters()))
