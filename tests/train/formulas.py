"""The losses as their papers write them, computed the slow way: padded rows, full logits, one pair or unit after the other."""

from __future__ import annotations

import math

import numpy as np
import torch
from rollout_formulas import TOKEN_TERMS, UNIT_TERMS, rollout_formula, units_of
from soft_formulas import soft_formula
from torch.nn.functional import logsigmoid

from redi_ray.config.objectives import DpoObjective
from redi_ray.config.soft_objectives import SOFT
from redi_ray.objectives.redi import alpha_at

PROGRESS = 0.4
"""Of the step that is compared."""


def sides_of(store, group):
    """The pair's sequences, chosen first."""
    return sorted(store.sequences_of_group(group), key=lambda i: -store.side[i])


def padded_logps(model, store, group):
    """Per-token log-probs and references of a group, both sides padded to one length: `[2, L - 1]`, and the weights."""
    sides = [store.span(i) for i in sides_of(store, group)]
    width = max(s.stop - s.start for s in sides)

    def rows(array):
        return torch.stack(
            [torch.nn.functional.pad(torch.tensor(array[s]), (0, width - (s.stop - s.start))) for s in sides]
        )

    ids, weights, ref = rows(store.tokens).long(), rows(store.weights)[:, 1:], rows(store.ref_logps)[:, 1:]
    attention = torch.stack([torch.arange(width) < s.stop - s.start for s in sides]).long()
    logits = model(input_ids=ids, attention_mask=attention, use_cache=False).logits[:, :-1]
    logps = logits.log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
    return logps, ref.double(), weights.double()


def formula(model, store, groups, o):
    """The loss as OBJECTIVES' papers write it, one pair or one unit after the other."""
    if o.name in SOFT:
        alpha = alpha_at(o.alpha, o.schedule, PROGRESS) if o.name == "soft_redi" else None
        return soft_formula(model, store, groups, o, alpha)
    scored = [padded_logps(model, store, g) for g in groups]
    if o.name in ("sft", "asymre", "advantage"):
        return unit_formula(store, groups, scored, o)
    if o.name == "redi_groups" or o.name in TOKEN_TERMS | UNIT_TERMS:
        return rollout_formula(units_of(store, groups, scored, sides_of), o)
    if o.name == "both":
        return pair_formula(model, store, groups, scored, DpoObjective()) + both_formula(store, groups, scored)
    return pair_formula(model, store, groups, scored, o)


def unit_formula(store, groups, scored, o):
    """Objectives that take several units a sequence."""
    units = []
    for group, (lp, _, w) in zip(groups, scored, strict=True):
        of_group = []
        for row, i in enumerate(sides_of(store, group)):
            span, rewards = store.span(i), store.reward[store.units(i)]
            unit = np.zeros(len(store.tokens), int)[span] if store.unit is None else store.unit[span]
            for number, reward in enumerate(rewards):
                mine = [t for t in range(len(unit) - 1) if unit[t + 1] == number and w[row, t] != 0]
                total = sum(w[row, t] * lp[row, t] for t in mine)
                of_group.append((total, len(mine), float(reward), row == 0))
        units.append(of_group)
    chosen = [(total, n) for of in units for total, n, _, is_chosen in of if is_chosen]
    if o.name == "sft" and o.normalization == "token_mean":
        return -sum(total for total, _ in chosen) / sum(n for _, n in chosen)
    if o.name == "sft":
        return -sum(total / n for total, n in chosen) / len(chosen)
    terms = []
    for of in units:
        rewards = np.array([reward for *_, reward, _ in of])
        for k, (total, n, reward, _) in enumerate(of):
            a = {
                "constant": reward - getattr(o, "shift", 0),
                "group_mean": reward - rewards.mean() - getattr(o, "shift", 0),
                "leave_one_out": reward - np.delete(rewards, k).mean(),
                "group_scaled": (reward - rewards.mean()) / rewards.std(),
            }[o.baseline]
            terms.append(-a * (total / n if o.normalization == "sequence_mean" else total))
    return sum(terms) / len(terms)


def both_formula(store, groups, scored):
    total, num_tokens = 0, sum((w != 0).sum() for *_, w in scored)
    for group, (lp, r, w) in zip(groups, scored, strict=True):
        for row, i in enumerate(sides_of(store, group)):
            factor = w[row] * store.reward[i] * (2 + store.side[i]) / (w[row] != 0).sum() / (2 * len(groups))
            terms = factor * torch.sin(lp[row] - r[row]) + lp[row].square() / (len(groups) * num_tokens)
            total = total + terms[w[row] != 0].sum()
    return total


def pair_formula(model, store, groups, scored, o):  # noqa: PLR0911, PLR0912 (one case per objective)
    sums = torch.stack([(lp * w).sum(1) for lp, _, w in scored])
    refs = torch.stack([(r * w).sum(1) for _, r, w in scored])
    size = torch.stack([(w != 0).sum(1) for *_, w in scored])
    s, mean = sums - refs, sums / size
    if o.name == "ld_dpo":
        s = torch.stack([faded(lp, r, w, o.alpha) for lp, r, w in scored])
    (s_w, s_l), (m_w, m_l) = s.T, mean.T
    match o.name:
        case "redi" if o.exp_gamma is not None:
            return (-m_w + o.alpha * torch.exp(o.exp_gamma * m_l) * m_l).mean()
        case "redi":
            alpha = o.alpha
            if o.schedule.kind == "cosine":
                alpha = o.alpha * (1 - math.cos(math.pi * PROGRESS / o.schedule.until)) / 2
            return (-m_w + alpha * m_l).mean()
        case "dpo" | "ld_dpo":
            return -logsigmoid(o.beta * (s_w - s_l)).mean()
        case "simpo":
            return -logsigmoid(o.beta * (m_w - m_l) - o.gamma).mean()
        case "ipo":
            return (s_w / size[:, 0] - s_l / size[:, 1] - 0.5 / o.beta).square().mean()
        case "rpo":
            return (-logsigmoid(o.beta * (s_w - s_l)) - o.nll_weight * m_w).mean()
        case "nca":
            r_w, r_l = o.beta * s_w, o.beta * s_l
            return (-logsigmoid(r_w) - 0.5 * logsigmoid(-r_w) - 0.5 * logsigmoid(-r_l)).mean()
        case "cpo":
            return (-logsigmoid(o.beta * (sums[:, 0] - sums[:, 1])) - o.nll_weight * m_w).mean()
        case "orpo":
            odds = torch.logit(mean.exp())
            return (-m_w - o.beta * logsigmoid(odds[:, 0] - odds[:, 1])).mean()
        case "kto":
            if o.normalization == "sequence_mean":
                s_w, s_l = s_w / size[:, 0], s_l / size[:, 1]
            z = kto_baseline(model, store, groups, o)
            desirable = o.lambda_desirable * (1 - torch.sigmoid(o.beta * (s_w - z)))
            undesirable = o.lambda_undesirable * (1 - torch.sigmoid(o.beta * (z - s_l)))
            return torch.cat([desirable, undesirable]).mean()
    raise AssertionError(o.name)


def faded(lp, r, w, alpha):
    """`[2]` log-ratios of a pair, scored tokens beyond the shorter side's number of them times alpha."""
    place = (w != 0).cumsum(1)
    common = int(place[:, -1].min())
    return ((lp - r) * w * torch.where(place > common, alpha, 1.0)).sum(1)


def kto_baseline(model, store, groups, o):
    """z, one padded group at a time, without gradient."""
    if o.baseline == "none":
        return 0.0
    source = store.mismatched if o.baseline == "mismatched" else store
    with torch.no_grad():
        scored = [padded_logps(model, source, g) for g in groups]
    by_length = o.normalization == "sequence_mean"
    ratios = [((lp - r) * w).sum(1) / ((w != 0).sum(1) if by_length else 1) for lp, r, w in scored]
    z = torch.cat(ratios).mean()
    assert z > 0.1, "at the clamp nothing would be compared"
    return z.clamp(min=0)
