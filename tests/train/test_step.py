"""A step's loss and gradient are exactly those of the formula, computed the slow way: padded rows, full logits, autograd.

For every objective and over every freedom the trainer has: packing, number of packs, chunk size, tied and untied heads,
gradient checkpointing, number type.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from every_objective import BOTH, OBJECTIVES, BothParts
from formulas import PROGRESS, formula, padded_logps
from tiny_models import tiny_policy, tiny_store

from redi_ray.config.objectives import (
    AsymreObjective,
    DphObjective,
    DpoObjective,
    RediObjective,
    SftObjective,
    SimpoObjective,
)
from redi_ray.config.training import TrainSettings
from redi_ray.modeling import logps as head
from redi_ray.modeling.policy import Policy
from redi_ray.objectives import OBJECTIVES as SPECS
from redi_ray.train.batches import plan_batches
from redi_ray.train.lengths import fit_lengths
from redi_ray.train.records import SequenceRecord
from redi_ray.train.sequences import SequenceStore
from redi_ray.train.step import forward_backward

MASKS, WEIGHTS, UNITS = tiny_store(), tiny_store(weighted=True), tiny_store(weighted=True, units=True)


def with_weights(objective):
    """Weights that are not 0 and 1, and several units to a sequence where the objective takes them."""
    return UNITS if SPECS[objective.name].several_units else WEIGHTS


@pytest.fixture(autouse=True)
def both_parts(monkeypatch):
    """`BothParts` is an objective like any other here."""
    monkeypatch.setitem(SPECS, "both", BOTH)


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


@pytest.mark.parametrize("tied", [True, False], ids=["tied-masks", "untied-weights"])
@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: o.name)
def test_equals_padded_autograd_for_any_packing_and_chunk(objective, tied):
    """Under masks with a tied head; under weights, with several units a sequence, with an untied one."""
    policy, store = tiny_policy(tied), MASKS if tied else with_weights(objective)
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


def test_each_token_goes_through_the_head_once_unless_its_coefficient_depends_on_all(monkeypatch):
    """Terms of single tokens cost no pass, neither alone nor beside a psi: counted in tokens, and in passes of the decoder."""
    seen, terms, hidden = [], head._softmax_terms, Policy.hidden_states
    monkeypatch.setattr(
        head, "_softmax_terms", lambda logits, *rest: (seen.append(len(logits)), terms(logits, *rest))[1]
    )
    monkeypatch.setattr(Policy, "hidden_states", lambda *args: (passes.append(1), hidden(*args))[1])
    for objective, heads, decoders in ((DphObjective(), 1, 1), (DpoObjective(), 2, 2), (BothParts(), 2, 2)):
        for budget in (70, 10_000):
            seen.clear()
            passes: list[int] = []
            result, _, plan = run(tiny_policy(), MASKS, objective, tokens_per_pack=budget)
            packs = len(plan.packs_of_rank[0])
            assert sum(seen) == heads * result.metrics["scored_tokens"]
            assert len(passes) == (decoders if packs > 1 else 1) * packs


def test_rehearsal_by_its_nll_is_sft():
    """Same gradient, and a loss that differs by the reference's, which is a constant."""
    store = with_weights(DphObjective())
    sft, _, plan = run(tiny_policy(), store, SftObjective())
    sft_gradient = run(tiny_policy(), store, SftObjective())[1]
    ours, gradient, _ = run(tiny_policy(), store, DphObjective(divergence="nll", coefficient=1.0))
    constant = sum(store.ref_sums(i).sum() for i in plan.sequences) / store.scored[plan.sequences].sum()
    assert relative(gradient, sft_gradient) < 1e-12
    assert ours.loss == pytest.approx(sft.loss + constant, rel=1e-10)
    assert ours.metrics["pointwise"] == ours.loss


@pytest.mark.parametrize("objective", [SftObjective(normalization="sequence_mean"), AsymreObjective(), DphObjective()])
def test_one_unit_is_the_sequence(objective):
    sizes = np.arange(len(WEIGHTS) + 1)
    store = replace(WEIGHTS, unit=np.zeros(len(WEIGHTS.tokens), np.int16), unit_offsets=sizes)
    (first, gradient, _), (second, same, _) = (run(tiny_policy(), s, objective) for s in (WEIGHTS, store))
    assert first == second
    assert torch.equal(gradient, same)


def test_a_unit_that_is_cut_off_is_none():
    """Lengths of 12 leave some sequences without their last units: these are neither scored nor counted."""
    objective, settings = (
        AsymreObjective(normalization="sequence_mean"),
        TrainSettings(max_length=12, on_too_long="truncate"),
    )
    store, _ = fit_lengths(UNITS, settings)
    lost = sum(int((store.unit_lengths(i) == 0).sum()) for i in range(len(store)))
    assert lost > 0
    policy = tiny_policy()
    result, gradient, _ = run(policy, store, objective, tokens_per_pack=30)
    left = [np.flatnonzero(store.unit_lengths(i)) for i in range(len(store))]
    records = []
    for i, group in enumerate(store.group):
        span = store.span(i)
        row = (store.tokens[span], store.prompt_lengths[i], store.weights[span], store.unit[span])
        reward = store.reward[store.units(i)][left[i]]
        records.append(SequenceRecord(int(group), int(store.side[i]), *row, reward=reward, columns={}))
    expected, same, _ = run(policy, SequenceStore.from_records(records), objective, tokens_per_pack=30)
    assert result == expected
    assert torch.equal(gradient, same)


def test_masked_tokens_and_their_references_do_not_matter():
    """What the reference says of prompt and masked tokens is never read."""
    store = tiny_store()
    other = store.with_column("ref_logps", store.ref_logps + 100 * (store.weights == 0))
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
                0,
                side,
                [1, *prefix, *tail],
                start,
                columns={"ref_logps": [*([-2.0] * (1 + len(prefix))), *([-3.0] * len(tail))]},
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
    for objective in (RediObjective(), DpoObjective(), DphObjective()):
        assert not run(policy, store, objective)[0].finite
