"""Objectives on a problem's samples as their papers write them, one unit or one token after the other."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import fmean, pstdev

import torch

from redi_ray.modeling.soft_columns import is_soft
from redi_ray.objectives.dph import divergence


@dataclass
class Unit:
    """Of a sequence in a problem's group."""

    side: int
    reward: float
    tokens: list[dict] = field(default_factory=list)
    """Each its log-prob `l`, the reference's `r`, its weight `w`, and columns."""

    def total(self, name: str):
        return sum(t["w"] * t[name] for t in self.tokens)

    def mean(self, name: str):
        return self.total(name) / len(self.tokens)


def units_of(store, groups, scored, sides_of) -> list[list[Unit]]:
    """The units of each group; the scored tokens of each."""
    found = []
    for group, (lp, r, w) in zip(groups, scored, strict=True):
        mine = []
        for row, i in enumerate(sides_of(store, group)):
            start = store.span(i).start
            units = [Unit(int(store.side[i]), float(reward)) for reward in store.reward[store.units(i)]]
            for t in range(int(store.lengths[i]) - 1):
                if w[row, t] != 0:
                    number = 0 if store.unit is None else int(store.unit[start + t + 1])
                    columns = {
                        name: float(column[start + t + 1])
                        for name, column in store.columns.items()
                        if not is_soft(column)
                    }
                    units[number].tokens.append({"l": lp[row, t], "r": r[row, t], "w": w[row, t], **columns})
            mine += units
        found.append(mine)
    return found


def rollout_formula(groups: list[list[Unit]], o):
    units = [unit for group in groups for unit in group]
    n = sum(len(unit.tokens) for unit in units)
    if o.name in TOKEN_TERMS:
        term, each = TOKEN_TERMS[o.name], [(group, unit) for group in groups for unit in group]
        return sum(t["w"] * term(o, group, unit, t, n, units) for group, unit in each for t in unit.tokens)
    if o.name == "redi_groups":
        return sum(redi_of(o, group) for group in groups) / len(groups)
    return sum(UNIT_TERMS[o.name](o, unit) for unit in units) / len(units)


def redi_of(o, group):
    """-mean of the right + alpha mean of the wrong."""
    right = [unit.mean("l") for unit in group if unit.side > 0]
    wrong = [unit.mean("l") for unit in group if unit.side < 0]
    if o.exp_gamma is not None:
        wrong = [torch.exp(o.exp_gamma * r) * r for r in wrong]
    return -sum(right) / len(right) + o.alpha * sum(wrong) / len(wrong)


def s2r_of(o, unit):
    s = unit.mean("l") - unit.mean("r")
    a = unit.reward - o.kl * (s if o.kl_gradient else s.item())
    rho = torch.exp(s)
    return -torch.minimum(a * rho, a * rho.clamp(1 - o.clip, 1 + o.clip))


def topr_of(o, unit):
    size = len(unit.tokens) if o.normalization == "sequence_mean" else 1
    s, x = unit.total("l") / size, (unit.total("l") - unit.total("sampler_logps")).item() / size
    return -s if unit.side > 0 else min(1.0, math.exp(x)) * s


def glow_of(o, unit):
    gain = (unit.mean("l") - unit.mean("r")).item()
    weight = o.alpha * (1 - torch.sigmoid(torch.tensor(o.beta * gain, dtype=torch.float64)).item())
    return -min(max(weight, o.least), o.most) * unit.mean("l")


def oreal_of(o, group, unit, t, n, units):
    k, p = len(group), fmean(one.side > 0 for one in group)
    same = sum(len(one.tokens) for one in units if one.side == unit.side)
    drift = 2 * torch.sigmoid(torch.tensor(t["reward_mean"], dtype=torch.float64)).item() - 1
    if unit.side > 0:
        omega = max(drift, 0) if o.token_rewards else 1
        term = -2 * (1 - p) * k / (k - 1) * omega * t["l"] / same
    else:
        omega = max(-drift, 0) if o.token_rewards else 1
        term = o.negative * 2 * p * k / (k - 1) * omega * torch.exp(t["l"] - t["sampler_logps"]) / same
    d = t["r"] - t["l"]
    return term + o.kl * (torch.exp(d) - d - 1) / n


def nft_of(o, group, unit, t, n, _units):
    q = fmean(one.side > 0 for one in group)
    ratio = torch.exp(t["l"] - t["sampler_logps"])
    omega = {"wrong_share": 1 - q, "scaled": ((1 - q) / q) ** 0.5, "one": 1}[o.prompt_weight]
    if unit.side > 0:
        return -omega * torch.log(ratio) / n
    implied = (1 - q * ratio) / (1 - q)
    held = max(implied.item(), o.epsilon)
    return -omega * torch.log(implied - implied.item() + held) / n


def ppo_of(o, group, unit, t, n, _units):
    rewards = [one.reward for one in group]
    a = (unit.reward - fmean(rewards)) / pstdev(rewards)
    ratio = torch.exp(t["l"] - t["sampler_logps"])
    term = torch.minimum(a * ratio, a * ratio.clamp(1 - o.low, 1 + o.high))
    return -(term if a >= 0 else torch.maximum(term, torch.tensor(a * o.dual))) / n


def on_policy_of(o, _group, _unit, t, n, units):
    if o.student == "policy":
        return -(t["teacher_logps"] - t["l"].item()) * t["l"] / n
    whole = [one["w"] for unit in units for one in unit.tokens]
    every = [one["w"] * (one["teacher_logps"] - one["sampler_logps"]) for unit in units for one in unit.tokens]
    a = (
        t["teacher_logps"]
        - t["sampler_logps"]
        - (float(sum(every)) / float(sum(whole)) if o.baseline == "batch_mean" else 0)
    )
    a = a if o.most is None else max(-o.most, min(o.most, a))
    ratio = torch.exp(t["l"] - t["sampler_logps"])
    return -torch.minimum(a * ratio, a * ratio.clamp(1 - o.clip, 1 + o.clip)) / n


def dph_of(o, _group, unit, t, _n, units):
    n = sum(len(one.tokens) for one in units if one.side > 0)
    return o.coefficient * divergence(t["l"] - t["r"], o) / n if unit.side > 0 else 0 * t["l"]


UNIT_TERMS = {"s2r": s2r_of, "topr": topr_of, "glow": glow_of}
TOKEN_TERMS = {
    "oreal": oreal_of,
    "nft": nft_of,
    "ppo_clip": ppo_of,
    "dph": dph_of,
    "on_policy_distillation": on_policy_of,
}
