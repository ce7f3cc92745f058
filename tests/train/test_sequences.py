"""Sequences survive the flat layout, the disk and `max_length`, and what cannot be trained on is refused by name."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_models import tiny_store

from redi_ray.config.training import TrainSettings
from redi_ray.errors import UserError
from redi_ray.train.sequences import SequenceRecord, SequenceStore, fit_lengths, require_vocabulary


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
    for reference in (True, False):
        store = tiny_store(reference=reference)
        store.save(tmp_path / str(reference))
        for mmap in (True, False):
            loaded = SequenceStore.load(tmp_path / str(reference), mmap=mmap)
            for name in ("tokens", "weights", "offsets", "group", "side"):
                np.testing.assert_array_equal(getattr(loaded, name), getattr(store, name))
            assert loaded.prompt_lengths.tolist() == store.prompt_lengths.tolist()
            assert (loaded.ref_logps is not None) == reference
            assert not reference or loaded.ref_sum(3) == store.ref_sum(3)
    with pytest.raises(FileNotFoundError):
        SequenceStore.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([], "no sequences"),
        ([SequenceRecord(0, 1, [5, 6], 2)], "sequence 0 .* no token"),
        ([SequenceRecord(0, 0, [5, 6], 1)], "side must be"),
        ([SequenceRecord(0, 1, [5, 6], 1), SequenceRecord(2, 1, [5, 6], 1)], "without gaps"),
        ([SequenceRecord(0, 1, [5, 6], 1, ref_logps=[0.0])], "one reference log-prob per token"),
        ([SequenceRecord(0, 1, [5, 6], 1), SequenceRecord(1, 1, [5, 6], 1, ref_logps=[0, 0])], "like all"),
    ],
)
def test_bad_records_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        SequenceStore.from_records(bad)


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
    assert dropped.tokens.tolist() == [5, 6, 7, 8, 5, 6, 9]
    assert dropped.num_groups == 1
    cut, counts = fit("truncate", 4)
    assert counts == {"too_long": 1, "truncated": 1, "dropped_groups": 0}
    assert cut.tokens.tolist() == [5, 6, 7, 8, 1, 2, 5, 6, 9, 1, 2, 3, 4]
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
    foreign = store.select(np.arange(4), store.lengths)
    foreign.tokens = np.where(foreign.tokens == 9, 40, foreign.tokens)
    with pytest.raises(UserError, match="token 40"):
        require_vocabulary(store.with_mismatched(foreign), 12)


def test_truncation_that_leaves_nothing_to_score_drops_the_pair():
    """max_length 2 cuts group 0's completions off entirely; group 1 keeps one scored token on each side."""
    cut, counts = fit("truncate", 2)
    assert counts == {"too_long": 3, "truncated": 1, "dropped_groups": 1}
    assert cut.tokens.tolist() == [1, 2, 1, 2]
    with pytest.raises(ValueError, match="no group is left"):
        fit("truncate", 1)
