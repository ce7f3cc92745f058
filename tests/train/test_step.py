"""A step's loss and gradient are exactly those of the formula, computed the slow way: padded rows, full logits, autograd.

For every objective and over every freedom the trainer has: packing, number of packs, chunk size, tied and untied heads,
gradient checkpointing, number type.
"""

from __future__ import annotations

import math

import pytest
import torch
from tiny_models import tiny_policy, tiny_store
from torch.nn.functional import logsigmoid

from redi_ray.config.objectives import (
    AlphaSchedule,
    CpoObjective,
    DpoObjective,
    IpoObjective,
    KtoObjective,
    NcaObjective,
    OrpoObjective,
    RediObjective,
    RpoObjective,
    SftObjective,
    SimpoObjective,
)
from redi_ray.config.training import TrainSettings
from redi_ray.train.batches import plan_batches
from redi_ray.train.sequences import SequenceRecord, SequenceStore
from redi_ray.train.step import forward_backward

OBJECTIVES = [
    SftObjective(),
    SftObjective(normalization="sequence_mean"),
    RediObjective(),
    RediObjective(schedule=AlphaSchedule(kind="cosine", until=0.8)),
    RediObjective(exp_gamma=0.3),
    DpoObjective(),
    SimpoObjective(),
    IpoObjective(),
    RpoObjective(),
    NcaObjective(),
    CpoObjective(),
    OrpoObjective(),
    KtoObjective(lambda_undesirable=0.7),
    KtoObjective(normalization="sequence_mean", beta=2.0),
    KtoObjective(baseline="batch_mean"),
    KtoObjective(baseline="none"),
]
PROGRESS = 0.4


def padded_logps(model, store, group):
    """Per-token log-probs and references of a group, both sides padded to one length: `[2, L - 1]`, and the mask."""
    sides = [store.span(i) for i in sorted(store.sequences_of_group(group), key=lambda i: -store.side[i])]
    width = max(s.stop - s.start for s in sides)

    def rows(array):
        return torch.stack(
            [torch.nn.functional.pad(torch.tensor(array[s]), (0, width - (s.stop - s.start))) for s in sides]
        )

    ids, mask, ref = rows(store.tokens).long(), rows(store.weights)[:, 1:], rows(store.ref_logps)[:, 1:]
    attention = torch.stack([torch.arange(width) < s.stop - s.start for s in sides]).long()
    logits = model(input_ids=ids, attention_mask=attention, use_cache=False).logits[:, :-1]
    logps = logits.log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
    return logps, ref.double(), mask.double()


def formula(model, store, groups, o):  # noqa: PLR0911, PLR0912 (one case per objective)
    """The loss as OBJECTIVES' papers write it, pair by pair."""
    scored = [padded_logps(model, store, g) for g in groups]
    sums = torch.stack([(lp * m).sum(1) for lp, _, m in scored])
    refs = torch.stack([(r * m).sum(1) for _, r, m in scored])
    size = torch.stack([m.sum(1) for *_, m in scored])
    s, mean = sums - refs, sums / size
    (s_w, s_l), (m_w, m_l) = s.T, mean.T
    match o.name:
        case "sft" if o.normalization == "token_mean":
            return -sums[:, 0].sum() / size[:, 0].sum()
        case "sft":
            return -m_w.mean()
        case "redi" if o.exp_gamma is not None:
            return (-m_w + o.alpha * torch.exp(o.exp_gamma * m_l) * m_l).mean()
        case "redi":
            alpha = o.alpha
            if o.schedule.kind == "cosine":
                alpha = o.alpha * (1 - math.cos(math.pi * PROGRESS / o.schedule.until)) / 2
            return (-m_w + alpha * m_l).mean()
        case "dpo":
            return -logsigmoid(o.beta * (s_w - s_l)).mean()
        case "simpo":
            return -logsigmoid(o.beta * (m_w - m_l) - o.gamma).mean()
        case "ipo":
            return (s_w / size[:, 0] - s_l / size[:, 1] - 0.5 / o.beta).square().mean()
        case "rpo":
            return (-logsigmoid(o.beta * (s_w - s_l)) - o.nll_weight * m_w).mean()
        case "nca":
            r_w, r_l = o.beta * s_w, o.beta * s_l
            return (-logsigmoid(r_w) - 0.5 * logsigmoid(-r_w) - 0.5 * logsigmoid(-r_l)).mean()
        case "cpo":
            return (-logsigmoid(o.beta * (sums[:, 0] - sums[:, 1])) - o.nll_weight * m_w).mean()
        case "orpo":
            odds = torch.logit(mean.exp())
            return (-m_w - o.beta * logsigmoid(odds[:, 0] - odds[:, 1])).mean()
        case "kto":
            if o.normalization == "sequence_mean":
                s_w, s_l = s_w / size[:, 0], s_l / size[:, 1]
            z = kto_baseline(model, store, groups, o)
            desirable = o.lambda_desirable * (1 - torch.sigmoid(o.beta * (s_w - z)))
            undesirable = o.lambda_undesirable * (1 - torch.sigmoid(o.beta * (z - s_l)))
            return torch.cat([desirable, undesirable]).mean()
    raise AssertionError(o.name)


def kto_baseline(model, store, groups, o):
    """z, one padded group at a time, without gradient."""
    if o.baseline == "none":
        return 0.0
    source = store.mismatched if o.baseline == "mismatched" else store
    with torch.no_grad():
        scored = [padded_logps(model, source, g) for g in groups]
    ratios = [((lp - r) * m).sum(1) / (m.sum(1) if o.normalization == "sequence_mean" else 1) for lp, r, m in scored]
    z = torch.cat(ratios).mean()
    assert z > 0.1, "at the clamp nothing would be compared"
    return z.clamp(min=0)


def flat_grad(policy):
    return torch.cat([p.grad.flatten() for p in policy.parameters()])


def run(policy, store, objective, **options):
    settings = TrainSettings(batch_size=4, **options)
    plan = plan_batches(store, settings, 1, objective)[0]
    policy.zero_grad()
    result = forward_backward(policy, store, plan, objective, progress=PROGRESS, settings=settings)
    return result, flat_grad(policy), plan


def relative(a, b):
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: o.name)
def test_equals_padded_autograd_for_any_packing_and_chunk(objective, tied):
    policy, store = tiny_policy(tied), tiny_store()
    groups = run(policy, store, objective)[2].groups
    policy.zero_grad()
    expected = formula(policy.model, store, groups, objective)
    expected.backward()
    gradient = flat_grad(policy)
    packs = set()
    # one sequence to a row, a few rows, one row
    for budget, chunk in ((1, 64), (60, 5), (120, 1), (10_000, 512)):
        result, ours, plan = run(policy, store, objective, tokens_per_pack=budget, head_chunk_tokens=chunk)
        packs.add(len(plan.packs_of_rank[0]))
        assert result.finite
        assert result.loss == pytest.approx(expected.item(), rel=1e-10)
        assert relative(ours, gradient) < 1e-10
    assert len(packs) >= 3, "the budgets were meant to give different numbers of packs"


@pytest.mark.parametrize("objective", [RediObjective(), SimpoObjective()], ids=lambda o: o.name)
def test_float32_agrees_over_packings(objective):
    store = tiny_store()
    runs = [
        run(tiny_policy(dtype=torch.float32), store, objective, tokens_per_pack=budget, head_chunk_tokens=chunk)
        for budget, chunk in ((1, 3), (70, 5), (10_000, 512))
    ]
    exact = run(tiny_policy(), store, objective)
    for result, gradient, _ in runs:
        assert result.loss == pytest.approx(exact[0].loss, rel=1e-5)
        assert relative(gradient, runs[0][1]) < 1e-5


def test_gradient_checkpointing_changes_nothing():
    store, objective = tiny_store(), SimpoObjective()
    _, expected, _ = run(tiny_policy(), store, objective)
    policy = tiny_policy()
    policy.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    assert relative(run(policy, store, objective, tokens_per_pack=70)[1], expected) < 1e-10


def test_accumulating_two_halves_is_the_whole():
    """Two steps of half the batch, scaled by their share, add up to one: nothing is normalised per micro-batch."""
    store, objective = tiny_store(num_pairs=4), RediObjective()
    policy = tiny_policy()
    whole = run(policy, store, objective)[1]
    settings = TrainSettings(batch_size=2)
    plan = plan_batches(store, settings, 1, objective)
    policy.zero_grad()
    for step in range(2):
        forward_backward(policy, store, plan[step], objective, progress=0.0, settings=settings)
    assert relative(flat_grad(policy) / 2, whole) < 1e-10


def test_masked_tokens_and_their_references_do_not_matter():
    """What the reference says of prompt and masked tokens is never read."""
    store = tiny_store()
    other = SequenceStore(
        tokens=store.tokens,
        weights=store.weights,
        offsets=store.offsets,
        group=store.group,
        side=store.side,
        prompt_lengths=store.prompt_lengths,
        ref_logps=store.ref_logps + 100 * (store.weights == 0),
    )
    first, second = (run(tiny_policy(), s, DpoObjective()) for s in (store, other))
    assert first[0].loss == second[0].loss
    assert torch.equal(first[1], second[1])


def test_a_shared_prefix_left_unmasked_cancels_in_dpo_only():
    """Step-DPO's mask removes what both sides share; DPO's difference does that anyway, a length-normalised one does not."""
    prefix, tails = [3, 9, 4, 1], ([7, 2, 8], [5, 6])

    def store(masked):
        start = 1 + len(prefix) if masked else 1
        return SequenceStore.from_records(
            SequenceRecord(
                0, side, [1, *prefix, *tail], start, ref_logps=[*([-2.0] * (1 + len(prefix))), *([-3.0] * len(tail))]
            )
            for side, tail in zip((1, -1), tails, strict=True)
        )

    def gradient(objective, masked):
        return run(tiny_policy(), store(masked), objective)[1]

    assert relative(gradient(DpoObjective(), True), gradient(DpoObjective(), False)) < 1e-10
    assert relative(gradient(RediObjective(), True), gradient(RediObjective(), False)) > 1e-2


def test_metrics_are_those_of_the_global_batch():
    policy, store = tiny_policy(), tiny_store()
    result, _, plan = run(policy, store, RediObjective(), tokens_per_pack=70)
    with torch.no_grad():
        scored = [padded_logps(policy.model, store, g) for g in plan.groups]
    means = torch.stack([(lp * m).sum(1) / m.sum(1) for lp, _, m in scored])
    assert result.metrics["chosen_logp"] == pytest.approx(means[:, 0].mean().item())
    assert result.metrics["rejected_logp"] == pytest.approx(means[:, 1].mean().item())
    assert result.metrics["margin"] == pytest.approx((means[:, 0] - means[:, 1]).mean().item())
    assert result.metrics["pair_accuracy"] == (means[:, 0] > means[:, 1]).double().mean().item()
    assert result.metrics["scored_tokens"] == sum(m.sum() for *_, m in scored)
    assert result.metrics["alpha"] == 0.8


def test_a_weight_that_is_not_a_number_is_noticed():
    policy, store = tiny_policy(), tiny_store()
    policy.model.get_input_embeddings().weight.data[5] = float("nan")
    for objective in (RediObjective(), DpoObjective()):
        assert not run(policy, store, objective)[0].finite
