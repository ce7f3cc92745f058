"""Mismatched sequences: another group's completion after every prompt, fixed by the data alone, cut to fit and never a
reason to drop what is trained on.
"""

from __future__ import annotations

import numpy as np
import pytest
from tiny_models import tiny_store

from redi_ray.config.training import TrainSettings
from redi_ray.train.lengths import fit_lengths
from redi_ray.train.mismatched import mismatched_sequences, partners
from redi_ray.train.records import SequenceRecord
from redi_ray.train.sequences import SequenceStore


def records() -> list[SequenceRecord]:
    """Two pairs whose tokens tell prompt (tens), side and group; the second one's rejected completion is partly masked."""
    return [
        SequenceRecord(0, 1, [10, 11, 1, 2], 2),
        SequenceRecord(0, -1, [10, 11, 3], 2),
        SequenceRecord(1, 1, [20, 4], 1),
        SequenceRecord(1, -1, [20, 5, 6, 7], 1, weights=[1, 0, 1, 1]),
    ]


def test_by_hand():
    """Two groups follow each other; chosen completions go to chosen prompts, and keep their masks."""
    other = mismatched_sequences(SequenceStore.from_records(records()))
    spans = [other.span(i) for i in range(4)]
    assert [other.tokens[s].tolist() for s in spans] == [[10, 11, 4], [10, 11, 5, 6, 7], [20, 1, 2], [20, 3]]
    assert [other.weights[s].tolist() for s in spans] == [[0, 0, 1], [0, 0, 0, 1, 1], [0, 1, 1], [0, 1]]
    assert other.group.tolist() == [0, 0, 1, 1]
    assert other.prompt_lengths.tolist() == [2, 2, 1, 1]


def test_every_completion_is_used_once_by_another_group_whatever_the_order_of_batches():
    for store in (tiny_store(30), singles(31)):
        found = partners(store)
        assert sorted(found.tolist()) == list(range(len(store)))
        assert (store.group[found] != store.group).all()
        assert (store.side[found] == store.side).all() or len(np.unique(store.group)) == len(store)
        np.testing.assert_array_equal(partners(store), found)
    shifts = np.unique((partners(singles(31)) - np.arange(31)) % 31)
    assert len(shifts) > 10, "neighbours in the data are not neighbours in the cycle"


def singles(count: int) -> SequenceStore:
    """Unpaired examples, good and bad."""
    return SequenceStore.from_records(SequenceRecord(g, 1 if g % 3 else -1, [g, 1], 1) for g in range(count))


def test_a_single_group_has_no_mismatch():
    with pytest.raises(ValueError, match="at least two groups"):
        mismatched_sequences(SequenceStore.from_records(records()[:2]))


@pytest.mark.parametrize(("on_too_long", "groups"), [("error", 2), ("drop", 2), ("truncate", 2)])
def test_what_is_too_long_only_when_mismatched_is_cut(on_too_long, groups):
    """max_length 4 holds all four sequences, but not prompt 0 with the last completion (5 tokens, 2 of 3 scored)."""
    store = SequenceStore.from_records(records())
    store = store.with_mismatched(mismatched_sequences(store))
    fitted, counts = fit_lengths(store, TrainSettings(max_length=4, on_too_long=on_too_long))
    assert fitted.num_groups == groups
    assert fitted.tokens.tolist() == store.tokens.tolist()
    assert fitted.mismatched.lengths.tolist() == [3, 4, 3, 2]
    assert fitted.mismatched.scored.tolist() == [1, 1, 2, 1]
    assert counts == {"too_long": 0, "truncated": 0, "dropped_groups": 0, "truncated_mismatched": 1}


def test_a_dropped_group_takes_its_mismatched_sequences_along_but_not_its_partners():
    """max_length 3 drops both pairs' longer ones; with a third, short pair something is left, cut to fit."""
    short = [SequenceRecord(2, side, [30, 8], 1) for side in (1, -1)]
    store = SequenceStore.from_records([*records(), *short])
    store = store.with_mismatched(mismatched_sequences(store))
    fitted, counts = fit_lengths(store, TrainSettings(max_length=3, on_too_long="drop"))
    assert counts["dropped_groups"] == 2
    assert [fitted.tokens[fitted.span(i)].tolist() for i in (0, 1)] == [[30, 8], [30, 8]]
    assert [fitted.mismatched.tokens[fitted.mismatched.span(i)][0] for i in (0, 1)] == [30, 30]
    assert fitted.mismatched.lengths.max() <= 3


def test_sequences_that_do_not_belong_together_are_refused():
    store, other = tiny_store(6), tiny_store(7)
    with pytest.raises(ValueError, match="made of other sequences"):
        store.with_mismatched(other.mismatched)
