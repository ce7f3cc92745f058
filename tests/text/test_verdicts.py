"""The label policies, as a table: a trace that could not be judged must never become a rejected sample."""

from __future__ import annotations

from itertools import product

import pytest

from redi_ray.schemas import Verdict
from redi_ray.text.verdicts import POLICIES, decide, invert

C, W, N, T, E = Verdict.CORRECT, Verdict.WRONG, Verdict.NO_ANSWER, Verdict.TIMEOUT, Verdict.ERROR
G = Verdict.GOLD_UNPARSEABLE


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        #                all any drop mv  both paper
        (C, C, (C, C, C, C, C, C)),
        (C, W, (E, C, E, C, C, W)),
        (W, C, (E, C, E, W, E, W)),
        (W, W, (W, W, W, W, W, W)),
        (C, None, (E, C, C, C, C, W)),
        (W, None, (E, E, W, W, E, W)),
        (None, C, (E, C, C, E, E, W)),
        (None, None, (E, E, E, E, E, W)),
        (T, C, (T, C, T, T, T, T)),
        (T, W, (T, T, T, T, T, W)),
        (C, G, (G, C, G, C, C, G)),
        (N, W, (N, N, N, N, N, W)),
        (N, C, (N, C, N, N, N, W)),
        (W, E, (E, E, E, W, E, W)),
    ],
)
def test_table(first, second, expected):
    """Every policy on each kind of agreement; the columns are in the order of POLICIES."""
    votes = {"math_verify": first, "judge": second}
    assert tuple(decide(votes, policy) for policy in POLICIES) == expected


@pytest.mark.parametrize("policy", POLICIES)
def test_wrong_needs_a_reason(policy):
    """No policy says wrong without a vote for wrong; `paper` also takes a missing vote or answer as one."""
    reasons = (W, None, N) if policy == "paper" else (W,)
    for votes in product([*Verdict, None], repeat=2):
        if decide({"math_verify": votes[0], "label": votes[1]}, policy) == W:
            assert any(vote in reasons for vote in votes)


@pytest.mark.parametrize("policy", POLICIES)
def test_one_vote_is_the_verdict(policy):
    for vote in Verdict:
        expected = W if policy == "paper" and vote == N else vote
        assert decide({"math_verify": vote}, policy) == expected


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="drop_disagreement"):
        decide({"label": C}, "majority")
    with pytest.raises(ValueError, match="no votes"):
        decide({}, "all")


def test_inverted_labels_swap_what_is_certain_and_nothing_else():
    assert [invert(verdict) for verdict in Verdict] == [W, C, N, T, G, E]
    assert [invert(invert(verdict)) for verdict in Verdict] == list(Verdict)
