"""The plan: a batch's members follow from (seed, step) alone, every sequence lands in exactly one pack, ranks get equally
many packs of similar cost, and packs are full.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import tiny_store

from redi_ray.config.objectives import (
    AdvantageObjective,
    AsymreObjective,
    DphObjective,
    DpoObjective,
    KtoObjective,
    NftObjective,
    OrealObjective,
    RediObjective,
    SftObjective,
    ToprObjective,
)
from redi_ray.config.training import TrainSettings
from redi_ray.objectives import OBJECTIVES
from redi_ray.train.batches import BatchPlan, cost, first_fit_decreasing, pack, plan_batches
from redi_ray.train.records import SequenceRecord
from redi_ray.train.sequences import SequenceStore


def store_of(lengths) -> SequenceStore:
    """Pairs with the given (chosen, rejected) lengths."""
    return SequenceStore.from_records(
        SequenceRecord(g, side, [1] * n, 1)
        for g, pair in enumerate(lengths)
        for side, n in zip((1, -1), pair, strict=True)
    )


def long_tailed(pairs: int, longest: int = 1024, seed: int = 0) -> SequenceStore:
    rng = np.random.default_rng(seed)
    lengths = np.clip(np.exp(rng.normal(np.log(longest / 4), 0.7, (pairs, 2))), 16, longest).astype(int)
    return store_of(lengths.tolist())


@given(
    lengths=st.lists(st.integers(1, 120), min_size=1, max_size=40),
    budget=st.integers(10, 200),
    world_size=st.sampled_from([1, 2, 3, 4, 8]),
)
@settings(max_examples=200, deadline=None)
def test_packs_partition_the_batch_within_the_budget(lengths, budget, world_size):
    lengths = np.array(lengths)
    ranks = pack(lengths, budget, world_size)
    assert len(ranks) == world_size
    assert len({len(packs) for packs in ranks}) == 1, "sharded forward passes are collective"
    assert sorted(i for packs in ranks for one in packs for i in one) == list(range(len(lengths)))
    for one in (one for packs in ranks for one in packs):
        assert lengths[one].sum() <= budget or len(one) == 1
        assert sorted(lengths[one], reverse=True) == lengths[one].tolist(), "longest first, for batched attention"
    least = -(-len(first_fit_decreasing(lengths, budget)) // world_size) * world_size
    assert sum(len(packs) for packs in ranks) == least


def test_first_fit_decreasing_by_hand():
    """Budget 10: 7+3, 6+4, 5; the 12 alone."""
    assert first_fit_decreasing(np.array([3, 7, 4, 12, 6, 5]), 10) == [[3], [1, 0], [4, 2], [5]]


def test_members_depend_on_seed_and_step_alone():
    store = long_tailed(50)
    base = TrainSettings(batch_size=8, epochs=2)
    plan = BatchPlan(store, base, 1)
    assert plan.total_steps == 14, "6 full batches and one of 2, twice"
    members = [plan[s].groups.tolist() for s in range(14)]
    for epoch in (members[:7], members[7:]):
        assert sorted(g for groups in epoch for g in groups) == list(range(50))
    assert members[:7] != members[7:], "every epoch has its own order"
    assert len(members[6]) == 2, "the last incomplete batch is kept"
    for world_size, budget in ((1, 100), (4, 4096), (8, 2000)):
        other = BatchPlan(store, TrainSettings(batch_size=8, epochs=2, tokens_per_pack=budget), world_size)
        for step in (13, 0, 5):  # in any order: nothing is remembered
            assert other[step].groups.tolist() == members[step]
            packed = sorted(i for packs in other[step].packs_of_rank for one in packs for i in one.sequences)
            assert packed == sorted(i for g in members[step] for i in store.sequences_of_group(g))
    assert BatchPlan(store, TrainSettings(batch_size=8, seed=1), 1)[0].groups.tolist() != members[0]
    assert BatchPlan(store, TrainSettings(batch_size=8, max_steps=3), 1).total_steps == 3
    with pytest.raises(IndexError):
        plan[14]


@pytest.mark.parametrize("world_size", [1, 2, 4, 8])
def test_long_tailed_packs_are_full_and_even(world_size):
    """32 pairs a step, 2048 tokens to a pack: at least 95% of the room is used; at worst ranks differ by a tenth in cost."""
    plan = BatchPlan(long_tailed(320), TrainSettings(batch_size=32, tokens_per_pack=2048), world_size)
    steps = [plan[s] for s in range(plan.total_steps)]
    assert np.mean([s.pack_fill for s in steps]) >= 0.95
    for step in steps:
        loads = [
            sum(cost(int(plan.store.lengths[i])) for one in packs for i in one.sequences)
            for packs in step.packs_of_rank
        ]
        assert min(loads) >= 0.9 * max(loads)


def test_more_ranks_than_sequences():
    """Idle ranks get a dummy pack, so that they take part in the collectives."""
    step = BatchPlan(store_of([(9, 5)]), TrainSettings(batch_size=4), 4)[0]
    assert [[one.tokens for one in packs] for packs in step.packs_of_rank] == [[9], [5], [0], [0]]


def test_oversized_sequences_get_a_pack_of_their_own_or_are_refused():
    """Pack budget 10: the 12 runs alone, or stops the run by name before the first step."""
    store, train = store_of([(9, 5), (4, 12)]), TrainSettings(batch_size=2, tokens_per_pack=10)
    packs = [one for packs in plan_batches(store, train, 1, RediObjective())[0].packs_of_rank for one in packs]
    assert sorted(one.tokens for one in packs if len(one.sequences) == 1) == [9, 12]
    with pytest.raises(
        ValueError, match=r"1 of 4 .*tokens_per_pack = 10 .*sequence 3 of group 1, 12 tokens.*on_oversized"
    ):
        plan_batches(store, replace(train, on_oversized="error"), 1, RediObjective())
    plan_batches(store, replace(train, on_oversized="error", tokens_per_pack=12), 1, RediObjective())
    plan_batches(store, replace(train, on_oversized="error"), 1, SftObjective())  # which does not read that side


@pytest.mark.parametrize("world_size", [1, 2])
def test_a_mismatched_baseline_changes_nothing_else_of_the_plan(world_size):
    """Same members, same packs; the mismatched sequences of exactly these members run in packs of their own."""
    store, train = tiny_store(num_pairs=10), TrainSettings(batch_size=4, tokens_per_pack=60)
    plain, mismatched = (
        plan_batches(store, train, world_size, KtoObjective(baseline=baseline)) for baseline in ("none", "mismatched")
    )
    for step in range(3):
        one, other = plain[step], mismatched[step]
        assert one.packs_of_rank == other.packs_of_rank
        assert not any(one.mismatched_packs_of_rank)
        packs = other.mismatched_packs_of_rank
        assert len({len(of) for of in packs}) == 1, "sharded forward passes are collective"
        assert sorted(i for of in packs for pack in of for i in pack.sequences) == sorted(one.sequences.tolist())
        assert all(pack.tokens == store.mismatched.lengths[[*pack.sequences]].sum() for of in packs for pack in of)


def test_objectives_choose_their_sequences_and_name_what_is_missing(monkeypatch):
    store = store_of([(9, 5), (4, 6)])
    train = TrainSettings()
    assert sorted(plan_batches(store, train, 1, SftObjective())[0].sequences.tolist()) == [0, 2]
    assert sorted(plan_batches(store, train, 1, RediObjective())[0].sequences.tolist()) == [0, 1, 2, 3]
    for objective in (DpoObjective(), KtoObjective()):
        with pytest.raises(ValueError, match="needs reference log-probs"):
            plan_batches(store, train, 1, objective)
    with_reference = tiny_store().with_mismatched(None)
    with pytest.raises(ValueError, match="mismatched sequences with reference log-probs"):
        plan_batches(with_reference, train, 1, KtoObjective())
    plan_batches(with_reference, train, 1, KtoObjective(baseline="batch_mean"))
    for objective in (AsymreObjective(), AdvantageObjective()):
        with pytest.raises(
            ValueError, match=r"needs a reward for every sequence .* none: the step that makes the groups"
        ):
            plan_batches(store, train, 1, objective)
    alike = replace(store, reward=np.array([1.0, 1, 0, 0]))
    with pytest.raises(ValueError, match="none of 2 groups has two that differ"):
        plan_batches(alike, train, 1, AdvantageObjective())
    plan_batches(alike, train, 1, AdvantageObjective(baseline="none"))
    plan_batches(replace(store, reward=np.array([1.0, 0, 0, 0])), train, 1, AdvantageObjective())
    with pytest.raises(ValueError, match="3 of 4 have one"):
        plan_batches(replace(store, reward=np.array([1.0, np.nan, 0, 0])), train, 1, AsymreObjective())
    with pytest.raises(ValueError, match=r"redi needs one score per sequence, and .* up to 4 units each"):
        plan_batches(tiny_store(units=True), train, 1, RediObjective())
    monkeypatch.setitem(OBJECTIVES, "dph", replace(OBJECTIVES["dph"], columns=lambda _: ("old_logps",)))
    with pytest.raises(ValueError, match="dph needs the token columns old_logps, and the sequences have ref_logps,"):
        plan_batches(tiny_store(), train, 1, DphObjective())
    for objective in (OrealObjective(), NftObjective()):
        lone = replace(tiny_store(), side=np.ones(12, np.int8))
        with pytest.raises(
            ValueError, match=f"{objective.name} learns from right samples beside wrong ones, and none of 6"
        ):
            plan_batches(lone, train, 1, objective)
    with pytest.raises(ValueError, match="topr needs the token columns sampler_logps, and the sequences have none"):
        plan_batches(tiny_store(reference=False), train, 1, ToprObjective())
    unpaired = SequenceStore.from_records([SequenceRecord(0, 1, [1, 2], 1), SequenceRecord(1, -1, [1, 2], 1)])
    with pytest.raises(ValueError, match=r"redi needs pairs: 2 of 2 groups"):
        plan_batches(unpaired, train, 1, RediObjective())
    with pytest.raises(ValueError, match="chosen side is empty"):
        plan_batches(SequenceStore.from_records([SequenceRecord(0, -1, [1, 2], 1)]), train, 1, SftObjective())
