"""Pass `choose`: which samples of a problem become a group. Reasons and their order are the ones in `GroupSettings`."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np

from redi_ray.config.group_steps import GroupSettings
from redi_ray.data.curate.work import Drops, order_key
from redi_ray.schemas import trace_id

ROUNDING = 1e-9
"""By which a number may fall short by rounding alone: .3 - .1 is below .2."""
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


def choose(
    settings: GroupSettings, problem_id: str, traces: Traces, rate: dict[str, Any], losses: Losses
) -> list[Traces]:
    """The members of the problem's groups, in generation order; none if the problem goes. Several groups, which may have the same
    members, come of `repeats`. All that goes is noted in `losses`."""
    if (reason := wrong_rate(settings, rate)) is not None:
        losses.lose(reason, problem_id, len(traces), f"{rate['correct']} of {rate['samples']}")
        return []
    members = []
    for trace in traces:
        if trace["no_reward"] is None:
            members.append(trace)
        else:
            _drop(trace, trace["no_reward"], losses)
    give_advantages(settings, members)
    if settings.frequent_answers is not None:
        members = frequent(settings.frequent_answers, members, losses)
    draws = [_cap(settings, members, number) for number in range(repeats_of(settings, rate))]
    whole = [kept for kept, _ in draws if fault_of(settings, kept) is None]
    first, gone = draws[0]
    used = {trace["sample_index"] for kept in whole or [first] for trace in kept}
    at = {trace["sample_index"]: trace for trace in members}
    for index in [*gone, *(index for index in at if index not in gone)]:
        if index not in used:
            _drop(at[index], gone.get(index, "incomplete_group"), losses)
    if not whole:
        lose_group(settings, problem_id, first, losses)
    return whole


def give_advantages(settings: GroupSettings, members: Traces) -> None:
    """Give each sample its advantage over these, where that is asked for: the formulas are those of
    `redi_ray.objectives.rewards.advantage`."""
    if settings.advantages is None:
        return
    rewards = np.array([trace["reward"] for trace in members])
    size = len(rewards)
    centred = rewards - rewards.mean() if size else rewards
    if settings.advantages == "leave_one_out":
        centred = centred * size / max(size - 1, 1)
    elif settings.advantages == "group_scaled":
        deviation = rewards.std() if size else 0.0
        rounding = 8 * np.finfo(float).eps * np.abs(rewards).mean() if size else 0.0  # of the mean of equal rewards
        centred = np.zeros(size) if deviation <= rounding else centred / deviation
    for trace, advantage in zip(members, centred.tolist(), strict=True):
        trace["advantage"] = advantage


def repeats_of(settings: GroupSettings, rate: dict[str, Any]) -> int:
    """Groups of a problem with this pass rate."""
    return next((entry.times for entry in settings.repeats if rate["pass_rate"] < entry.below), 1)


def wrong_rate(settings: GroupSettings, rate: dict[str, Any]) -> str | None:
    """Why a problem with this pass rate goes, or None."""
    if (settings.min_rate, settings.max_rate) == (0, 1) and not settings.repeats:
        return None
    if rate["pass_rate"] is None:
        return "not_rated"
    if rate["pass_rate"] < settings.min_rate:
        return "too_hard"
    repeated = not settings.repeats or rate["pass_rate"] < settings.repeats[-1].below
    return None if rate["pass_rate"] <= settings.max_rate and repeated else "too_easy"


def frequent(share: float, members: Traces, losses: Losses) -> Traces:
    """The first sample of each of the most frequent answers, as `GroupSettings.frequent_answers` says.

    Example: answers 7 5 7 9 5 7 4, share 0.5 -> 7 and 5 cover 4 of 7 with the 5s: the samples 1 and 2.
    """
    counts = Counter(trace["answer"] for trace in members if trace["answer"])
    wanted, covered = dict[str, str](), 0
    for answer, times in counts.most_common():
        if wanted and (times < 2 or covered >= share * counts.total() - ROUNDING):
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


def _cap(settings: GroupSettings, members: Traces, number: int) -> tuple[Traces, dict[int, str]]:
    """At most so many, and so many wrong ones; the seed picks them, anew for each number, and the generation order stays. Those
    that go by their `sample_index`, with the reason."""
    again = f"/{number}" if number else ""
    left = sorted(members, key=lambda t: order_key(settings.seed, trace_id(t["problem_id"], t["sample_index"]) + again))
    gone: dict[int, str] = {}
    for side in (1, -1) if settings.per_side is not None else ():
        for trace in [one for one in left if side_of(one["reward"], settings) == side][settings.per_side :]:
            left.remove(trace)
            gone[trace["sample_index"]] = "over_per_side"
    if settings.most_wrong is not None:
        right = sum(side_of(trace["reward"], settings) > 0 for trace in left)
        wrong, most = 0, math.floor(settings.most_wrong * right + ROUNDING)
        for trace in list(left):
            if side_of(trace["reward"], settings) < 0:
                wrong += 1
                if wrong > most:
                    left.remove(trace)
                    gone[trace["sample_index"]] = "over_most_wrong"
    kept = _most(settings, left)
    gone |= {trace["sample_index"]: "over_most" for trace in left if trace not in kept}
    if settings.margin is not None:
        ends = _ends(kept)
        gone |= {trace["sample_index"]: "neither_best_nor_worst" for trace in kept if trace not in ends}
    return [trace for trace in members if trace["sample_index"] not in gone], gone


def _most(settings: GroupSettings, left: Traces) -> Traces:
    """The first `most` of these; with one of the other side in the place of the last where all are on one and both are asked for;
    where too many are wrong, right ones from further on in the place of the last wrong ones, and nothing in their place where no
    right one is left."""
    if settings.most is None:
        return left

    def is_right(one: dict[str, Any]) -> bool:
        return side_of(one["reward"], settings) > 0

    kept, further = left[: settings.most], left[settings.most :]
    if settings.both_sides and settings.margin is None and len(kept) > 1 and len(set(map(is_right, kept))) == 1:
        others = [one for one in further if is_right(one) is not is_right(kept[0])]
        kept[-1:] = others[:1] or kept[-1:]
    further = [one for one in further if is_right(one) and one not in kept]
    while settings.most_wrong is not None:
        wrong = [one for one in kept if not is_right(one)]
        if len(wrong) <= settings.most_wrong * (len(kept) - len(wrong)) + ROUNDING:
            break
        kept.remove(wrong[-1])
        kept += further[:1]
        del further[:1]
    return kept


def _ends(members: Traces) -> Traces:
    """The member with the highest reward and the one with the lowest, of equal ones the first."""
    if len(members) < 2:
        return members
    best = max(members, key=lambda trace: trace["reward"])
    return [best, min((trace for trace in members if trace is not best), key=lambda trace: trace["reward"])]


def _drop(trace: dict[str, Any], reason: str, losses: Losses) -> None:
    losses.add("trace", reason, trace["problem_id"], trace_id(trace["problem_id"], trace["sample_index"]))


def fault_of(settings: GroupSettings, members: Traces) -> tuple[str, str] | None:
    """Why these make no group, and what it is of them; None where they do."""
    rewards = [trace["reward"] for trace in members]
    sides = Counter(sides_of(rewards, settings))
    if len(members) < settings.least:
        return "too_few", f"{len(members)} of {settings.least}"
    apart = max(rewards) - min(rewards)
    if settings.margin is not None and (apart == 0 or apart < settings.margin - ROUNDING):
        return "small_margin", f"{apart:g} of {settings.margin:g}"
    if settings.both_sides and len(sides) < 2:
        return "one_side", "all right" if sides[1] else "all wrong"
    return None


def lose_group(settings: GroupSettings, problem_id: str, members: Traces, losses: Losses) -> None:
    """Note that these make no group."""
    fault = fault_of(settings, members)
    assert fault is not None, f"{problem_id}: its members make a group"
    losses.lose(fault[0], problem_id, len(members), fault[1])
