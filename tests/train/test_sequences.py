"""Sequences survive the flat layout, the disk and `max_length`, and what cannot be trained on is refused by name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tiny_models import tiny_store

from redi_ray.config.objectives import AdvantageObjective, KtoObjective, RediObjective
from redi_ray.config.training import TrainSettings
from redi_ray.errors import UserError
from redi_ray.train.lengths import fit_lengths, require_vocabulary
from redi_ray.train.records import SequenceRecord
from redi_ray.train.sequences import SequenceStore


def records():
    return [
        SequenceRecord(0, 1, [5, 6, 7, 8], 2),
        SequenceRecord(1, 1, [1, 2], 1),
        SequenceRecord(0, -1, [5, 6, 9], 2),
        SequenceRecord(1, -1, [1, 2, 3, 4, 0], 1, weights=[1, 1, 0, 1, 1]),
    ]


def test_layout():
    """Prompt tokens are never scored, a mask counts on completion tokens only, groups find their sequences in any order."""
    store = SequenceStore.from_records(records())
    assert store.tokens.tolist() == [5, 6, 7, 8, 1, 2, 5, 6, 9, 1, 2, 3, 4, 0]
    assert store.weights.tolist() == [0, 0, 1, 1, 0, 1, 0, 0, 1, 0, 1, 0, 1, 1]
    assert store.lengths.tolist() == [4, 2, 3, 5]
    assert store.scored.tolist() == [2, 1, 1, 3]
    assert store.num_groups == 2
    assert [store.sequences_of_group(g) for g in (0, 1)] == [[0, 2], [1, 3]]


def test_the_first_token_is_never_scored():
    """There is nothing that predicts it, even where there is no prompt."""
    assert SequenceStore.from_records([SequenceRecord(0, 1, [5, 6], 0)]).scored.tolist() == [1]


def test_save_and_load(tmp_path):
    """Every array comes back as it was, those that only some stores have too: a byte per weight where all are 0 or 1."""
    arrays = (
        "tokens",
        "weights",
        "starts",
        "lengths",
        "group",
        "side",
        "prompt_lengths",
        "unit",
        "unit_offsets",
        "reward",
    )
    plain, all_there = tiny_store(reference=False), tiny_store(weighted=True, units=True)
    all_there = all_there.with_column("scores", np.linspace(0, 1, len(all_there.tokens)).astype(np.float16))
    for store, folder in ((plain, tmp_path / "plain"), (all_there, tmp_path / "all")):
        store.save(folder)
        for mmap in (True, False):
            loaded = SequenceStore.load(folder, mmap=mmap)
            for name in arrays:
                ours, theirs = getattr(loaded, name), getattr(store, name)
                np.testing.assert_array_equal(ours, theirs)
                assert ours is None or ours.dtype == theirs.dtype
            assert loaded.columns.keys() == store.columns.keys()
            for name, column in store.columns.items():
                np.testing.assert_array_equal(loaded.columns[name], column)
                assert loaded.columns[name].dtype == column.dtype
    assert (plain.weights.dtype, all_there.weights.dtype) == (np.uint8, np.float32)
    assert (plain.unit, plain.ref_logps) == (None, None)
    assert {path.name for path in (tmp_path / "all").rglob("*.npy")} >= {"ref_logps.npy", "scores.npy", "unit.npy"}
    with pytest.raises(FileNotFoundError):
        SequenceStore.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([], "no sequences"),
        ([SequenceRecord(0, 1, [5, 6], 2)], "sequence 0 .* no token"),
        ([SequenceRecord(0, 0, [5, 6], 1)], "side must be"),
        ([SequenceRecord(0, 1, [5, 6], 1), SequenceRecord(2, 1, [5, 6], 1)], "without gaps"),
        ([SequenceRecord(0, 1, [5, 6], 1, columns={"a": [0.0]})], "one number of a per token, got 1 for 2"),
        ([SequenceRecord(0, 1, [5, 6], 1), SequenceRecord(1, 1, [5, 6], 1, columns={"a": [0, 0]})], "none, like all"),
        ([SequenceRecord(0, 1, [5, 6], 1, reward=[1]), SequenceRecord(1, 1, [5, 6], 1)], "needs a reward, like all"),
        ([SequenceRecord(0, 1, [5, 6], 1, [1, float("nan")])], "not a finite number"),
        (
            [SequenceRecord(0, 1, [5, 6, 7], 1, unit=[0, 0, 2])],
            r"with a scored token each, and those scored are \[0, 2\]",
        ),
        ([SequenceRecord(0, 1, [5, 6, 7], 1, [0, 1, 0], unit=[0, 1, 0])], r"those scored are \[1\]"),
        ([SequenceRecord(0, 1, [5, 6, 7], 1, unit=[0, 0, 1], reward=[1])], "each of its 2 units, got 1"),
    ],
)
def test_bad_records_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        SequenceStore.from_records(bad)


def rows(store):
    return [store.tokens[store.span(i)].tolist() for i in range(len(store))]


def fit(on_too_long, max_length, store=None):
    settings = TrainSettings(max_length=max_length, on_too_long=on_too_long)
    return fit_lengths(store or SequenceStore.from_records(records()), settings)


def test_fit_lengths():
    """max_length 4: only group 1's rejected side (5 tokens) is too long."""
    store = SequenceStore.from_records(records())
    assert fit("error", 5, store) == (store, {"too_long": 0, "truncated": 0, "dropped_groups": 0})
    with pytest.raises(ValueError, match=r"1 of 4 .* group 1, 5 tokens"):
        fit("error", 4)
    dropped, counts = fit("drop", 4)
    assert counts == {"too_long": 1, "truncated": 0, "dropped_groups": 1}
    assert rows(dropped) == [[5, 6, 7, 8], [5, 6, 9]]
    assert dropped.num_groups == 1
    cut, counts = fit("truncate", 4)
    assert counts == {"too_long": 1, "truncated": 1, "dropped_groups": 0}
    assert rows(cut) == [[5, 6, 7, 8], [1, 2], [5, 6, 9], [1, 2, 3, 4]]
    assert cut.scored.tolist() == [2, 1, 1, 2], "lengths count what is scored after truncation"


@pytest.mark.parametrize(("max_length", "positions"), [(32768, 4), (4, 32768), (4, None), (4, 4)])
def test_the_shorter_of_max_length_and_the_models_positions_counts(max_length, positions):
    """A model without so many positions fails deep inside, or computes on without a word."""
    store = SequenceStore.from_records(records())
    drop, error = (TrainSettings(max_length=max_length, on_too_long=how) for how in ("drop", "error"))
    dropped, counts = fit_lengths(store, drop, positions)
    assert (dropped.lengths.max(), counts["dropped_groups"]) == (4, 1)
    limit = "max_position_embeddings" if max_length > 4 else "max_length"
    with pytest.raises(ValueError, match=f"1 of 4 sequences are longer than {limit} = 4"):
        fit_lengths(store, error, positions)


def test_tokens_that_the_model_does_not_have_are_named():
    store = SequenceStore.from_records(records())  # up to token 9
    require_vocabulary(store, 10)
    with pytest.raises(UserError, match="token 9, but the model's embedding has 9 rows"):
        require_vocabulary(store, 9)
    foreign = replace(store, tokens=np.where(store.tokens == 9, 40, store.tokens))
    with pytest.raises(UserError, match="token 40"):
        require_vocabulary(store.with_mismatched(foreign), 12)


def test_choosing_and_cutting_copies_no_array_of_tokens(tmp_path):
    """One long sequence must not cost every rank a copy of the corpus; rewards, units and columns follow their sequences."""
    whole = tiny_store(weighted=True, units=True)
    whole.save(tmp_path)
    store, length = SequenceStore.load(tmp_path), int(whole.lengths.max())
    kept, _ = fit("drop", length - 1, store)
    assert len(kept) == len(store) - 2
    for name in ("tokens", "weights", "unit"):
        assert np.shares_memory(getattr(kept, name), getattr(store, name)), name
    assert np.shares_memory(kept.ref_logps, store.ref_logps)
    gone = int(store.group[store.lengths.argmax()])
    for ours, theirs in zip(range(len(kept)), np.flatnonzero(store.group != gone), strict=True):
        assert kept.tokens[kept.span(ours)].tolist() == store.tokens[store.span(theirs)].tolist()
        assert kept.unit_lengths(ours).tolist() == store.unit_lengths(theirs).tolist()
        assert kept.reward[kept.units(ours)].tolist() == store.reward[store.units(theirs)].tolist()
        assert kept.ref_sums(ours).tolist() == store.ref_sums(theirs).tolist()
        assert kept.scored[ours] == store.unit_lengths(theirs).sum()
    with pytest.raises(AssertionError, match="not saved"):
        kept.save(tmp_path / "part")


def test_truncation_that_leaves_nothing_to_score_drops_the_pair():
    """max_length 2 cuts group 0's completions off entirely; group 1 keeps one scored token on each side."""
    cut, counts = fit("truncate", 2)
    assert counts == {"too_long": 3, "truncated": 1, "dropped_groups": 1}
    assert rows(cut) == [[1, 2], [1, 2]]
    with pytest.raises(ValueError, match="no group is left"):
        fit("truncate", 1)


@pytest.mark.parametrize(
    ("objective", "left", "counts"),
    [
        (None, [2], {"dropped_groups": 2}),
        (RediObjective(), [2], {"dropped_groups": 2}),
        (KtoObjective(), [0, 0, 1, 2], {"dropped_groups": 0, "dropped_members": 2}),
        (AdvantageObjective(), [0, 0, 2], {"dropped_groups": 1, "dropped_members": 1}),
        (AdvantageObjective(baseline="none"), [0, 0, 1, 2], {"dropped_groups": 0, "dropped_members": 2}),
    ],
    ids=["unknown", "pairs", "each by itself", "compared", "not compared"],
)
def test_of_a_group_of_samples_only_the_long_one_goes(objective, left, counts):
    """Groups of 3, 2 and 1 samples, one too long in the first two; a sample that would be compared with none goes too."""
    sizes = [(0, 3), (0, 6), (0, 3), (1, 3), (1, 6), (2, 3)]
    made = [SequenceRecord(group, 1, list(range(size)), 1, reward=[place]) for place, (group, size) in enumerate(sizes)]
    settings = TrainSettings(max_length=4, on_too_long="drop")
    kept, found = fit_lengths(SequenceStore.from_records(made), settings, objective=objective)
    old = [sizes[int(reward)][0] for reward in kept.reward]
    assert (old, found) == (left, {"too_long": 2, "truncated": 0, **counts})
    assert kept.group.tolist() == np.unique(old, return_inverse=True)[1].tolist()
