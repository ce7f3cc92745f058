"""Pass `choose`: which samples of a problem become a group. Reasons and their order are the ones in `GroupSettings`."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from redi_ray.config.group_steps import GroupSettings
from redi_ray.data.curate.work import Drops, order_key
from redi_ray.schemas import trace_id

Traces = list[dict[str, Any]]
"""Of one problem, in generation order; see SCANNED in `redi_ray.data.groups.scan`."""


class Losses(Drops):
    """Drops, and how many samples went with the problems that did: those reconcile."""

    def lose(self, reason: str, problem_id: str, traces: int, detail: str | None = None) -> None:
        """Drop a problem with its samples."""
        self.add("problem", reason, problem_id, detail=detail)
        self.counts[f"lost/{reason}"] += traces


def side_of(reward: float, settings: GroupSettings) -> int:
    """+1 or -1, by the threshold."""
    return 1 if reward > settings.threshold else -1


def sides_of(rewards: list[float], settings: GroupSettings) -> list[int]:
    """+1 or -1 for each member of a group: by the threshold, or of a pair with a margin by which has more."""
    if settings.margin is None:
        return [side_of(reward, settings) for reward in rewards]
    return [1 if reward == max(rewards) else -1 for reward in rewards]


def choose(settings: GroupSettings, problem_id: str, traces: Traces, rate: dict[str, Any], losses: Losses) -> Traces:
    """The members, in generation order; none if the problem goes. All that goes is noted in `losses`."""
    if (reason := wrong_rate(settings, rate)) is not None:
        losses.lose(reason, problem_id, len(traces), f"{rate['correct']} of {rate['samples']}")
        return []
    members = []
    for trace in traces:
        if trace["no_reward"] is None:
            members.append(trace)
        else:
            _drop(trace, trace["no_reward"], losses)
    if settings.frequent_answers is not None:
        members = frequent(settings.frequent_answers, members, losses)
    members = _cap(settings, members, losses)
    if settings.margin is not None:
        members = _apart(settings, members, losses)
    return members if is_whole(settings, problem_id, members, losses) else []


def wrong_rate(settings: GroupSettings, rate: dict[str, Any]) -> str | None:
    """Why a problem with this pass rate goes, or None."""
    if (settings.min_rate, settings.max_rate) == (0, 1):
        return None
    if rate["pass_rate"] is None:
        return "not_rated"
    if rate["pass_rate"] < settings.min_rate:
        return "too_hard"
    return "too_easy" if rate["pass_rate"] > settings.max_rate else None


def frequent(share: float, members: Traces, losses: Losses) -> Traces:
    """The first sample of each of the most frequent answers, as `GroupSettings.frequent_answers` says.

    Example: answers 7 5 7 9 5 7 4, share 0.5 -> 7 and 5 cover 4 of 7 with the 5s: the samples 1 and 2.
    """
    counts = Counter(trace["answer"] for trace in members if trace["answer"])
    wanted, covered = dict[str, str](), 0
    for answer, times in counts.most_common():
        if wanted and (times < 2 or covered >= math.ceil(share * counts.total())):
            break
        wanted[answer], covered = "", covered + times
    kept = []
    for trace in members:
        if not trace["answer"]:
            _drop(trace, "no_answer_read", losses)
        elif (reason := wanted.get(trace["answer"], "seldom_answer")) != "":
            _drop(trace, reason, losses)
        else:
            kept.append(trace)
            wanted[trace["answer"]] = "same_answer_again"
    return kept


def _cap(settings: GroupSettings, members: Traces, losses: Losses) -> Traces:
    """At most so many, and so many wrong ones; the seed picks them, and the generation order stays."""
    left = sorted(members, key=lambda t: order_key(settings.seed, trace_id(t["problem_id"], t["sample_index"])))
    for side in (1, -1) if settings.per_side is not None else ():
        for trace in [one for one in left if side_of(one["reward"], settings) == side][settings.per_side :]:
            left.remove(trace)
            _drop(trace, "over_per_side", losses)
    if settings.most_wrong is not None:
        right = sum(side_of(trace["reward"], settings) > 0 for trace in left)
        wrong, most = 0, math.floor(settings.most_wrong * right + 1e-9)
        for trace in list(left):
            if side_of(trace["reward"], settings) < 0:
                wrong += 1
                if wrong > most:
                    left.remove(trace)
                    _drop(trace, "over_most_wrong", losses)
    for trace in left[settings.most :] if settings.most is not None else ():
        _drop(trace, "over_most", losses)
    kept = {trace["sample_index"] for trace in left[: settings.most]}
    return [trace for trace in members if trace["sample_index"] in kept]


def _apart(settings: GroupSettings, members: Traces, losses: Losses) -> Traces:
    """The members with the highest and the lowest reward, in generation order; all others are noted in `losses`."""
    left = sorted(members, key=lambda t: order_key(settings.seed, trace_id(t["problem_id"], t["sample_index"])))
    if len(left) < 3:
        return members
    best = max(left, key=lambda trace: trace["reward"])
    worst = min((trace for trace in left if trace is not best), key=lambda trace: trace["reward"])
    kept = {best["sample_index"], worst["sample_index"]}
    for trace in members:
        if trace["sample_index"] not in kept:
            _drop(trace, "neither_best_nor_worst", losses)
    return [trace for trace in members if trace["sample_index"] in kept]


def _drop(trace: dict[str, Any], reason: str, losses: Losses) -> None:
    losses.add("trace", reason, trace["problem_id"], trace_id(trace["problem_id"], trace["sample_index"]))


def is_whole(settings: GroupSettings, problem_id: str, members: Traces, losses: Losses) -> bool:
    """Whether these make a group; if not, they are lost."""
    rewards = [trace["reward"] for trace in members]
    sides = Counter(sides_of(rewards, settings))
    if len(members) < settings.least:
        losses.lose("too_few", problem_id, len(members), f"{len(members)} of {settings.least}")
        return False
    if settings.margin is not None and (apart := max(rewards) - min(rewards)) < settings.margin:
        losses.lose("small_margin", problem_id, len(members), f"{apart:g} of {settings.margin:g}")
        return False
    if settings.both_sides and len(sides) < 2:
        losses.lose("one_side", problem_id, len(members), "all right" if sides[1] else "all wrong")
        return False
    return True
