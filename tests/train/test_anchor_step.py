"""SFT with a KL from a frozen model over the vocabulary: a step's loss and gradient are the formula's, however it is packed."""

from __future__ import annotations

import pytest
import torch
from test_step import MASKS, UNITS, flat_grad, relative
from tiny_models import tiny_policy

from redi_ray.config.objectives import SftObjective
from redi_ray.config.training import TrainSettings
from redi_ray.train.batches import plan_batches
from redi_ray.train.step import forward_backward

OBJECTIVE = SftObjective(kl_vocabulary=0.3)


def other_policy():
    """A frozen one that is not the policy."""
    anchor = tiny_policy().eval().requires_grad_(False)
    torch.manual_seed(7)
    for parameter in anchor.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    return anchor


def expected(policy, anchor, store, sequences):
    """The slow way: each sequence by itself, all logits, autograd; the KL in the mean over tokens, by their weights."""
    loss = divergence = 0.0
    tokens = sum(int((store.weights[store.span(int(i))] != 0).sum()) for i in sequences)
    for i in sequences:
        span = store.span(int(i))
        ids = torch.from_numpy(store.tokens[span].astype("int64"))
        weights = torch.from_numpy(store.weights[span].astype("float64"))[1:]
        logs, theirs = (model.model(ids[None]).logits[0, :-1].log_softmax(1) for model in (policy, anchor))
        loss = loss - (weights * logs.gather(1, ids[1:, None])[:, 0]).sum() / tokens
        divergence = divergence + (weights * (logs.exp() * (logs - theirs)).sum(1)).sum() / tokens
    return loss + OBJECTIVE.kl_vocabulary * divergence, divergence


@pytest.mark.parametrize("store", [MASKS, UNITS], ids=["masks", "weights"])
def test_equals_autograd_for_any_packing_and_chunk(store):
    policy, anchor = tiny_policy(), other_policy()
    packs = set()
    for budget, chunk in ((1, 64), (60, 5), (10_000, 512)):
        settings = TrainSettings(batch_size=4, tokens_per_pack=budget, head_chunk_tokens=chunk)
        plan = plan_batches(store, settings, 1, OBJECTIVE)[0]
        policy.zero_grad()
        loss, divergence = expected(policy, anchor, store, plan.sequences)
        loss.backward()
        gradient = flat_grad(policy)
        policy.zero_grad()
        result = forward_backward(policy, store, plan, OBJECTIVE, progress=0.0, settings=settings, anchor=anchor)
        packs.add(len(plan.packs_of_rank[0]))
        assert result.finite
        assert result.loss == pytest.approx(loss.item(), rel=1e-10)
        assert result.metrics["kl"] == pytest.approx(float(divergence), rel=1e-10)
        assert relative(flat_grad(policy), gradient) < 1e-10
        assert all(parameter.grad is None for parameter in anchor.parameters())
    assert len(packs) >= 3


def test_without_the_frozen_model_it_is_refused():
    settings = TrainSettings(batch_size=4)
    plan = plan_batches(MASKS, settings, 1, OBJECTIVE)[0]
    with pytest.raises(AssertionError, match="needs the model"):
        forward_backward(tiny_policy(), MASKS, plan, OBJECTIVE, progress=0.0, settings=settings)
