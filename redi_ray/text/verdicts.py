"""The label policy: from the votes of the verifiers to one verdict. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from redi_ray.schemas import Verdict

Votes = list[Verdict | None]


def decide(votes: Mapping[str, Verdict | None], policy: str) -> Verdict:
    """The verdict over `votes` (verifier -> its vote, None where it abstained or was not asked; the order counts).

    | policy            | correct iff                      | wrong iff                                             |
    |-------------------|----------------------------------|-------------------------------------------------------|
    | all               | every vote is correct            | every vote is wrong                                   |
    | any               | at least one is correct          | every vote is wrong                                   |
    | drop_disagreement | every vote cast is correct       | every vote cast is wrong (abstentions are left out)   |
    | math_verify_only  | math_verify says correct         | math_verify says wrong                                |
    | both_false        | the first vote is correct        | every vote is wrong                                   |
    | paper             | every vote is correct            | any vote is wrong, no_answer or missing               |

    Everything else is neither: the verdict is then the first vote that could not tell (no_answer, timeout,
    gold_unparseable, error), and `error` where the votes contradict each other or one is missing; `verdict_by` keeps
    each vote. A time-out, a failure or an unreadable gold is `wrong` under no policy, and `paper` (METHOD: everything
    that is not correct by both is incorrect) differs from `all` in what it does with disagreement and missing votes.
    """
    if not votes:
        raise ValueError("no votes to decide on")
    if policy not in POLICIES:
        raise ValueError(f"unknown policy {policy!r}; use one of {', '.join(POLICIES)}")
    if policy == "math_verify_only":
        return _all([votes["math_verify"]])
    return POLICIES[policy](list(votes.values()))


def invert(verdict: Verdict) -> Verdict:
    """Correct and wrong swapped, everything else as it is: the negative control of a method that learns from labels."""
    return {Verdict.CORRECT: Verdict.WRONG, Verdict.WRONG: Verdict.CORRECT}.get(verdict, verdict)


def _neither(votes: Votes) -> Verdict:
    told = (vote for vote in votes if vote not in (Verdict.CORRECT, Verdict.WRONG, None))
    return next(told, None) or Verdict.ERROR


def _all(votes: Votes) -> Verdict:
    if all(vote == Verdict.CORRECT for vote in votes):
        return Verdict.CORRECT
    return Verdict.WRONG if all(vote == Verdict.WRONG for vote in votes) else _neither(votes)


def _any(votes: Votes) -> Verdict:
    return Verdict.CORRECT if Verdict.CORRECT in votes else _all(votes)


def _drop_disagreement(votes: Votes) -> Verdict:
    return _all([vote for vote in votes if vote is not None] or [None])


def _both_false(votes: Votes) -> Verdict:
    return Verdict.CORRECT if votes[0] == Verdict.CORRECT else _all(votes)


def _paper(votes: Votes) -> Verdict:
    if any(vote in (Verdict.WRONG, Verdict.NO_ANSWER, None) for vote in votes):
        return Verdict.WRONG
    return _all(votes)


POLICIES: dict[str, Callable[[Votes], Verdict]] = {
    "all": _all,
    "any": _any,
    "drop_disagreement": _drop_disagreement,
    "math_verify_only": _all,
    "both_false": _both_false,
    "paper": _paper,
}
