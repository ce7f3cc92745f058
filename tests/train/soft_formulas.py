"""Distillation as its papers write it: each sequence by itself, all logits, one token after the other."""

from __future__ import annotations

import torch

from redi_ray.modeling.soft_columns import likeliest, unpack


def soft_formula(model, store, groups, o, progress_alpha):
    """The loss of a batch of pairs. progress_alpha: REDI's alpha at the step."""
    pairs = [sorted(store.sequences_of_group(group), key=lambda i: -store.side[i]) for group in groups]
    if o.name == "soft_redi":
        terms = []
        for chosen, rejected in pairs:
            (of_chosen,), (of_rejected,) = units_of(model, store, chosen, o), units_of(model, store, rejected, o)
            n, m = len(of_chosen), len(of_rejected)
            soft, nll = (sum(t["w"] * t[what] for t in of_chosen) / n for what in ("d", "nll"))
            terms.append(soft + o.nll_weight * nll - progress_alpha * sum(t["w"] * t["nll"] for t in of_rejected) / m)
        return sum(terms) / len(terms)
    units = [unit for chosen, _ in pairs for unit in units_of(model, store, chosen, o)]
    totals = [sum(t["w"] * (t["d"] + o.nll_weight * t["nll"]) for t in unit) for unit in units]
    if o.normalization == "token_mean":
        return sum(totals) / sum(map(len, units))
    return sum(total / len(unit) for total, unit in zip(totals, units, strict=True)) / len(units)


def units_of(model, store, i, o):
    """Of each unit of a sequence its scored tokens: divergence `d`, `nll`, weight `w`."""
    span = store.span(i)
    ids, weights = torch.from_numpy(store.tokens[span].astype("int64")), store.weights[span]
    logps = model(ids[None]).logits[0].log_softmax(1)
    taught, shares = likeliest(*unpack(store.columns["soft_targets"][span]), o.top_k)
    units = [[] for _ in range(int(store.units(i).stop - store.units(i).start))]
    for t in range(1, len(ids)):
        if weights[t]:
            here = logps[t - 1]
            q, p = shares_of(here, taught[t], torch.from_numpy(shares[t]).double(), o)
            number = 0 if store.unit is None else int(store.unit[span][t])
            units[number].append({"d": by_name(q, p, o), "nll": -here[ids[t]], "w": float(weights[t])})
    return units


def shares_of(logps, tokens, logs, o):
    """Shares of the outcomes, the teacher's and the student's."""
    inside = logps[torch.from_numpy(tokens)].exp()
    outside = torch.cat([logps.exp()[[v for v in range(len(logps)) if v not in set(tokens.tolist())]]]).sum()
    q, p = logs.exp(), torch.cat([inside, outside[None]])
    if o.rest == "renormalise":
        q, p = q[:-1], p[:-1]
    q, p = (x ** (1 / o.temperature) for x in (q, p))
    return q / q.sum(), p / p.sum()


def by_name(q, p, o):
    name = getattr(o, "divergence", o.name)
    if name == "js":
        m = o.beta * q + (1 - o.beta) * p
        found = o.beta * (q * (q / m).log()).sum() + (1 - o.beta) * (p * (p / m).log()).sum()
    else:
        found = (q * (q / p).log()).sum() if name == "forward_kl" else (p * (p / q).log()).sum()
    return o.temperature**2 * found
